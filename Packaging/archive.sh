#!/usr/bin/env bash
# Builds the program with the Swift runtime and its C libraries inside, and packs it with all that it reads:
#
#   Packaging/archive.sh             dist/qlora-VERSION-linux-ARCHITECTURE.tar.gz
#
# Linked in: Swift's runtime and libstdc++, Lua, PCRE2, SQLite, libedit with libtinfo, libbsd and libmd, as far as the
# distribution has them as archives (.a). Opened when they are used: libcurl, libmicrohttpd, MPI. Left to the system:
# glibc, of no version newer than Packaging/symbols.sh allows.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(sed -n 's/^package let engineVersion = "\(.*\)"$/\1/p' Sources/Training/RunIdentity.swift)
name=qlora-$version-linux-$(uname -m)
build=.build/static

# The linker takes what it finds first: in the folder of products the archives lie, and the package files that swift
# build asks name that folder. Lua is there as one object: what is in an archive is hidden, and C modules of Lua call
# what the program exports.
products=$(swift build -c release --scratch-path "$build" --show-bin-path)
mkdir -p "$products/pkgconfig"
for package in lua5.4 libpcre2-8 libedit sqlite3; do
  sed "s#^Libs:#Libs: -L$products#" "$(pkg-config --variable=pcfiledir "$package")/$package.pc" \
    > "$products/pkgconfig/$package.pc"
done
export PKG_CONFIG_PATH=$products/pkgconfig
compiler=$(dirname "$(readlink -f "$(command -v swift)")")/clang
archive() {
  local file
  file=$("$compiler" -print-file-name="lib$1.a")
  if [ ! -f "$file" ]; then
    echo "error: no lib$1.a here; its -dev package has it (Debian: liblua5.4-dev libpcre2-dev libsqlite3-dev" \
      "libedit-dev libncurses-dev libbsd-dev libmd-dev libstdc++-12-dev)" >&2
    return 1
  fi
  readlink -f "$file"
}
for library in pcre2-8 sqlite3 edit tinfo bsd md stdc++; do
  file=$(archive "$library")
  ln -sf "$file" "$products/lib$library.a"
done
file=$(archive lua5.4)
ld -r -o "$products/lua5.4.o" --whole-archive "$file"
rm -f "$products/liblua5.4.a"
ar rc "$products/liblua5.4.a" # -llua5.4 finds it and nothing in it

swift build -c release --static-swift-stdlib --scratch-path "$build" --product qlora-run \
  -Xlinker "$products/lua5.4.o" -Xlinker -ltinfo -Xlinker -lbsd -Xlinker -lmd
program=$build/release/qlora-run
Packaging/symbols.sh "$program"

rm -rf "dist/$name"
mkdir -p "dist/$name"
make --no-print-directory install-files PREFIX= DESTDIR="$PWD/dist/$name" RUN="$program"
strip "dist/$name/bin/qlora-run"
documents=dist/$name/share/doc/qlora
install -d "$documents/licences"
cp README.md LICENSE CHANGELOG.md "$documents/"
cp -R docs "$documents/"
# What is linked in asks for its notice to go along.
for package in liblua5.4-dev libpcre2-dev libsqlite3-dev libedit-dev libncurses-dev libbsd-dev libmd-dev; do
  notice=/usr/share/doc/$package/copyright
  if [ -f "$notice" ]; then cp -L "$notice" "$documents/licences/$package"; fi
done
licence=$(dirname "$(dirname "$compiler")")/share/swift/LICENSE.txt
if [ -f "$licence" ]; then cp "$licence" "$documents/licences/swift"; fi

tar -C dist --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$(git log -1 --format=%ct 2>/dev/null || date +%s)" \
  -cf - "$name" | gzip -9n > "dist/$name.tar.gz"
echo "dist/$name.tar.gz: $(du -h "dist/$name.tar.gz" | cut -f1), unpacked $(du -sh "dist/$name" | cut -f1)"
