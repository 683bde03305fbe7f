#!/usr/bin/env bash
# Packs what Packaging/archive.sh has built as a Debian package, which installs on Debian 12 and Ubuntu 22.04 or newer:
#
#   Packaging/deb.sh                 dist/qlora_VERSION_ARCHITECTURE.deb
set -euo pipefail
cd "$(dirname "$0")/.."
umask 022
version=$(sed -n 's/^package let engineVersion = "\(.*\)"$/\1/p' Sources/Training/RunIdentity.swift)
source=dist/qlora-$version-linux-$(uname -m)
[ -d "$source" ] || { echo "error: $source is not there; run make archive first" >&2; exit 1; }
architecture=$(dpkg --print-architecture)
libc=$(Packaging/symbols.sh "$source/bin/qlora-run" | sed -n 's/.* asks for glibc \([0-9.]*\) .*/\1/p')

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root/DEBIAN" "$root/usr"
cp -R "$source/bin" "$source/share" "$root/usr/"
# Debian's places for these differ from those of /usr/local.
mkdir -p "$root/usr/share/zsh/vendor-completions"
mv "$root/usr/share/zsh/site-functions/_qlora-run" "$root/usr/share/zsh/vendor-completions/"
rmdir "$root/usr/share/zsh/site-functions"
gzip -9n "$root/usr/share/man/man1/qlora-run.1" "$root/usr/share/doc/qlora/CHANGELOG.md"
mv "$root/usr/share/doc/qlora/CHANGELOG.md.gz" "$root/usr/share/doc/qlora/changelog.gz"
{
  printf 'Files: *\nLicense: Apache-2.0\n On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.\n'
  printf 'Comment: what is linked in has its notices in /usr/share/doc/qlora/licences.\n'
} > "$root/usr/share/doc/qlora/copyright"
rm "$root/usr/share/doc/qlora/LICENSE"
chmod -R u=rwX,go=rX "$root"

cat > "$root/DEBIAN/control" <<END
Package: qlora
Version: $version
Architecture: $architecture
Section: science
Priority: optional
Maintainer: The qlora authors <maintainers@qlora.invalid>
Installed-Size: $(du -sk "$root/usr" | cut -f1)
Depends: libc6 (>= $libc), libgcc-s1
Recommends: libcurl4t64 | libcurl4 | libcurl3t64-gnutls | libcurl3-gnutls, ca-certificates, libmicrohttpd12t64 | libmicrohttpd12
Suggests: openmpi-bin
Description: fine-tune language models in 4 bits on the CPU
 qlora-run trains LoRA adapters on language models whose weights are stored in
 4 bits (QLoRA). Experiments are short Lua programs; recipes, a tiny model and
 data to try it with ship along. It reads and writes the files of PEFT,
 transformers and llama.cpp.
 .
 libcurl fetches models by name, libmicrohttpd serves one over HTTP.
END
(cd "$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum > DEBIAN/md5sums)
dpkg-deb --root-owner-group --build "$root" "dist/qlora_${version}_$architecture.deb"
