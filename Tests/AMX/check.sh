#!/bin/sh
# Runs the products of tiles (Sources/CPlatform/tiles.c) on an emulated Sapphire Rapids processor, and compares them bit
# for bit with the same in plain C (Tests/TileTwin).
#   apt-get install mmdebstrap binutils gcc && Tests/AMX/check.sh            as root; a few minutes
# mmdebstrap unpacks Debian's packages of Bochs, whose version 3 has AMX, and of what makes a CD that starts into a
# folder that goes again (under 300 MB); nothing of it is installed. Bochs lacks XFD, without which Linux uses no tiles,
# so the program has no system below it. CLANG names a compiler other than clang.
set -eu
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for tool in mmdebstrap ld objcopy gcc "${CLANG:=clang}"; do
  command -v "$tool" >/dev/null || { echo "error: $tool not found; see the head of $0" >&2; exit 1; }
done

compile() {
  "$CLANG" -O2 -Wall -Wextra -fno-stack-protector -fno-pic -mno-red-zone -D_Thread_local= -ISources/CPlatform/include \
    -ITests/TileTwin/include "$@"
}
compile -c Sources/CPlatform/tiles.c -o "$work/tiles.o"
compile -c Tests/TileTwin/twin.c -o "$work/twin.o"
compile -c Tests/AMX/main.c -o "$work/main.o"
"$CLANG" -c Tests/AMX/start.S -o "$work/start.o"
ld -static --section-start=.start=0x100000 -Ttext=0x101000 -e start -o "$work/program" "$work"/*.o \
  "$(gcc -print-libgcc-file-name)"

debian=$work/debian
chmod 755 "$work"
TMPDIR=$work mmdebstrap --quiet --variant=extract --aptopt='APT::Install-Recommends "false"' \
  --include=bochs,bochs-term,bochsbios,vgabios,isolinux,syslinux-common,xorriso \
  trixie "$debian" http://deb.debian.org/debian
mkdir "$debian/tmp/cd"
objcopy -O binary "$work/program" "$debian/tmp/cd/program"
cp "$debian/usr/lib/ISOLINUX/isolinux.bin" "$debian/tmp/cd"
for part in ldlinux mboot libcom32; do cp "$debian/usr/lib/syslinux/modules/bios/$part.c32" "$debian/tmp/cd"; done
cat > "$debian/tmp/cd/isolinux.cfg" <<END
default amx
label amx
  kernel mboot.c32
  append program
END
chroot "$debian" xorriso -as mkisofs -quiet -o /tmp/cd.iso -b isolinux.bin -c boot.cat -no-emul-boot \
  -boot-load-size 4 -boot-info-table /tmp/cd 2> "$work/xorriso"
cat > "$debian/tmp/bochsrc" <<END
config_interface: textconfig
display_library: rfb, options="timeout=0"
megs: 512
cpu: model=sapphire_rapids, ips=100000000, reset_on_triple_fault=0
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/vgabios/vgabios.bin
ata0-master: type=cdrom, path=/tmp/cd.iso, status=inserted
boot: cdrom
port_e9_hack: enabled=1
log: /tmp/log
panic: action=fatal
END
# This Bochs is built with its debugger, which waits for a first command. It ends with a fault of its own once it is
# shut down, so the text counts.
echo c > "$debian/tmp/commands"
timeout 1800 chroot "$debian" bochs-bin -q -f /tmp/bochsrc -rc /tmp/commands < /dev/null > "$work/output" 2>&1 || true
grep -a '^AMX\|^lanes' "$work/output" || tail -5 "$work/output" "$debian/tmp/log" >&2
grep -aq '^AMX: .* passed' "$work/output"
