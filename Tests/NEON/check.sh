#!/bin/sh
# Compiles the kernels for ARM's NEON, without and with its dot products of bfloat16, and runs them in an emulator beside
# those for AVX2: the numbers must agree, and the sums of those dot products have the bits of the processor's manual.
#   apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static && Tests/NEON/check.sh
# Takes two minutes. A Swift toolchain brings the standard library only for its own processor; its textual interface
# is compiled for the other one here, without the type that only x86 has.
set -eu
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for tool in swiftc gcc aarch64-linux-gnu-gcc qemu-aarch64-static; do
  command -v $tool >/dev/null || { echo "error: $tool not found; see the head of $0" >&2; exit 1; }
done

library=$(swiftc -print-target-info | sed -n 's/.*"runtimeResourcePath": "\(.*\)".*/\1/p')
arm=aarch64-unknown-linux-gnu
mkdir -p "$work/swift/linux/Swift.swiftmodule" "$work/swift/linux/_Builtin_float.swiftmodule"
ln -s "$(readlink -f "$library/clang")" "$work/swift/clang"
ln -s "$library/shims" "$library/apinotes" "$work/swift/"
for module in Swift _Builtin_float; do
  sed -e 's/x86_64-unknown-linux-gnu/'$arm'/' -e 's/self = _stdlib_\(remainder\|squareRoot\)l(.*)/fatalError()/' \
    "$library/linux/$module.swiftmodule/x86_64-unknown-linux-gnu.swiftinterface" \
    > "$work/swift/linux/$module.swiftmodule/$arm.swiftinterface"
done

# build NAME DEFINE OPTIONS...
build() {
  name=$1 define=$2
  shift 2
  set -- "$@" -O -wmo -parse-as-library -swift-version 6 -package-name qlora -I Sources/CPlatform/include -module-cache-path "$work/cache" \
    -Xfrontend -disable-implicit-concurrency-module-import \
    -Xfrontend -disable-implicit-string-processing-module-import
  mkdir "$work/$name"
  swiftc "$@" -module-name Numerics -emit-module -emit-module-path "$work/$name/Numerics.swiftmodule" \
    -c Sources/Numerics/*.swift -o "$work/$name/numerics.o"
  swiftc "$@" -module-name Probe -I "$work/$name" -D "$define" -enforce-exclusivity=unchecked \
    -c Sources/Kernels/*.swift Tests/NEON/Probe*.swift -o "$work/$name/kernels.o"
}
build avx2 ISA_AVX2 -Xcc -march=x86-64-v3 &
reference=$!
set -- -target $arm -resource-dir "$work/swift" -sdk / -Xcc -isystem -Xcc /usr/aarch64-linux-gnu/include
build neon ISA_NEON "$@" &
plain=$!
build neon-bf16 ISA_NEON "$@" -D ISA_NEON_BF16 -Xcc -march=armv8.2-a+bf16
wait $reference
wait $plain
# What else needs the runtime is never called.
link="-O1 -w -static -Wl,--unresolved-symbols=ignore-all -Wl,--no-warn-rwx-segments Tests/NEON/main.c"
gcc $link "$work/avx2/kernels.o" "$work/avx2/numerics.o" -lm -o "$work/avx2/run"
"$work/avx2/run" > "$work/avx2/numbers"
for set in neon neon-bf16; do
  aarch64-linux-gnu-gcc $link "$work/$set/kernels.o" "$work/$set/numerics.o" -lm -o "$work/$set/run"
  qemu-aarch64-static -cpu max "$work/$set/run" > "$work/$set/numbers"
  paste "$work/avx2/numbers" "$work/$set/numbers" | awk -v set=$set '
    { d = $1 - $2; if (d < 0) d = -d; s = $1 < 0 ? -$1 : $1; if (s < 1) s = 1; if (!(d <= 1e-5 * s)) bad++
      if (d > most) most = d; if ($1 != 0) filled++ }
    END { printf "%s: %d numbers, %d differ, by at most %.1e\n", set, NR, bad, most
          exit bad > 0 || filled < 30000 }'
done
