#!/usr/bin/env bash
# Says what a program asks of the system, and fails where that is more than Ubuntu 22.04 has: a symbol of a newer glibc,
# or a library besides glibc's own.
#
#   Packaging/symbols.sh PROGRAM
set -euo pipefail
program=$1
newest=2.35
allowed='libc|libm|libdl|libpthread|librt|ld-linux-x86-64|ld-linux-aarch64|libgcc_s'

symbols=$(readelf -W --dyn-syms "$program" | grep -oE '[[:alnum:]_]+@+[A-Z]+_[0-9][0-9.]*' | sed 's/@\+/ /' | sort -u)
wrong=0
while read -r symbol version; do
  case $version in
    GLIBC_*) ;;
    GCC_*) continue ;; # of libgcc_s, unchanged for a decade
    *) echo "error: $program asks for $symbol of $version, which glibc does not have" >&2; wrong=1; continue ;;
  esac
  number=${version#GLIBC_}
  if [ "$(printf '%s\n%s\n' "$number" "$newest" | sort -V | tail -1)" != "$newest" ]; then
    echo "error: $program asks for $symbol of glibc $number, newer than $newest" >&2
    wrong=1
  fi
done <<< "$symbols"

libraries=$(readelf -W -d "$program" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
for library in $libraries; do
  if ! [[ ${library%%.so*} =~ ^($allowed)$ ]]; then
    echo "error: $program needs $library, which a system may not have" >&2
    wrong=1
  fi
done
[ "$wrong" = 0 ] || exit 1
highest=$(sed -n 's/.* GLIBC_//p' <<< "$symbols" | sort -V | tail -1)
echo "$program asks for glibc $highest (allowed: $newest) and" $libraries
