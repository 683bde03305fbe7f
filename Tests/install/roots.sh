#!/usr/bin/env bash
# Tries what `make deb` leaves in dist as a new user would, in clean roots of Debian without Swift, compilers or caches.
# It needs root, python3, debootstrap and a Debian mirror, so `make test` does not run it:
#
#   make deb && sudo Tests/install/roots.sh              Debian 12 and 13
#   sudo MODEL=FOLDER Tests/install/roots.sh trixie      with the files of a Hugging Face model for the hub
#
# The hub is Tests/Fixtures/hub/server.py on the loopback. Without MODEL it serves the SmolLM2 that `make smollm2` has
# fetched, else the tiny model under that name. Fresh roots are kept in .build/roots (ROOTS) for the next time.
set -euo pipefail
cd "$(dirname "$0")/../.."
suites=("$@")
[ ${#suites[@]} -gt 0 ] || suites=(bookworm trixie)
# The mirror of this machine, where it is a Debian.
mirror=${MIRROR:-$(apt-get indextargets --format '$(SITE)' 2> /dev/null | grep -m1 '/debian$' || true)}
roots=${ROOTS:-$PWD/.build/roots}
fail() { echo "roots.sh: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || fail "needs root, for debootstrap and chroot"
command -v debootstrap > /dev/null || fail "needs debootstrap: apt-get install debootstrap"
archive=$(ls -t dist/qlora-*-linux-"$(uname -m)".tar.gz 2> /dev/null | head -1 || true)
package=$(ls -t dist/qlora_*_"$(dpkg --print-architecture)".deb 2> /dev/null | head -1 || true)
[ -n "$archive" ] && [ -n "$package" ] || fail "nothing in dist; run make deb first"

scratch=$(mktemp -d)
hub=""
finish() {
  if [ -n "$hub" ]; then kill "$hub" 2> /dev/null || true; fi
  rm -rf --one-file-system "$scratch"
}
trap finish EXIT

name=HuggingFaceTB/SmolLM2-135M-Instruct
served=$scratch/hub/models/$name
mkdir -p "$served"
gguf=downloads/SmolLM2-135M-Instruct.Q4_1.gguf
if [ -n "${MODEL:-}" ]; then
  cp -RL "$MODEL/." "$served/"
elif [ -f "$gguf" ]; then
  cp "$gguf" "$served/"
else
  echo "roots.sh: no MODEL and no $gguf, the hub serves the tiny model as $name"
  cp models/tiny/* "$served/"
fi
mkfifo "$scratch/open"
python3 Tests/Fixtures/hub/server.py "$scratch/hub" "$scratch/log" < "$scratch/open" > "$scratch/port" &
hub=$!
exec 7> "$scratch/open" # the server ends with its input
while [ ! -s "$scratch/port" ]; do kill -0 "$hub" || fail "the hub did not start"; sleep 0.1; done

# as USER COMMAND: bash in the root, with a /proc of its own and nothing of this environment.
as() {
  unshare --mount --pid --fork --kill-child bash -euc '
    mount -t proc proc "$0/proc"
    mount --rbind /dev "$0/dev"
    exec chroot --userspec="$1" "$0" env -i HOME=/home/newcomer PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb LC_ALL=C.UTF-8 \
      DEBIAN_FRONTEND=noninteractive HF_ENDPOINT=http://127.0.0.1:"$2" bash -euo pipefail -c "cd ~ 2> /dev/null || cd /; $3"
  ' "$root" "$1" "$(cat "$scratch/port")" "$2"
}
newcomer() { as 1000:1000 "$1"; }
administrator() { as 0:0 "$1"; }
install() { administrator "apt-get update -q > /dev/null; apt-get install -y -q $1 > /dev/null 2>&1"; }

# A copy of a clean root with a user, as $root.
fresh() {
  if [ ! -d "$roots/$suite" ]; then
    [ -n "$mirror" ] || fail "no mirror known; give MIRROR=URL"
    echo "== debootstrap $suite"
    mkdir -p "$roots"
    debootstrap --variant=minbase "$suite" "$roots/$suite.part" "$mirror" > "$scratch/debootstrap" 2>&1 ||
      { tail -5 "$scratch/debootstrap"; fail "debootstrap $suite"; }
    mv "$roots/$suite.part" "$roots/$suite"
  fi
  root=$scratch/$suite-$1
  cp -a "$roots/$suite" "$root"
  cp -L /etc/resolv.conf "$root/etc/"
  echo "127.0.0.1 localhost" > "$root/etc/hosts"
  administrator "useradd -m -u 1000 newcomer"
}

# expect WORDS FILE: a line of the file has the words.
expect() { grep -q -- "$1" "$2" || { cat "$2"; fail "$suite: nothing says: $1"; }; }

# quickstart COMMAND: to the first fine-tune in less than a minute.
quickstart() {
  SECONDS=0
  newcomer "$1" > "$scratch/output" 2>&1 || { cat "$scratch/output"; fail "$suite: the first fine-tune"; }
  local took=$SECONDS
  expect "of 20 unseen sentences summed up exactly right" "$scratch/output"
  newcomer "test -s out/quickstart/adapter_model.safetensors"
  echo "$suite: first fine-tune after $took s: $(tail -1 "$scratch/output")"
  [ "$took" -lt 60 ] || fail "$suite: the first fine-tune took $took s"
}

# smollm2 PROGRAM DATA: from the hub to an adapter in two commands.
smollm2() {
  newcomer "$1 fetch $name && $1 train --model $name --data $2 --set steps=2 --set batch=2 --set micro_batch=1" \
    > "$scratch/output" 2>&1 || { cat "$scratch/output"; fail "$suite: two commands to SmolLM2"; }
  newcomer "test -s out/finetune/adapter_model.safetensors"
  echo "$suite: $(grep -m1 '^loss' "$scratch/output")"
}

# refuses PROGRAM COMMAND WORDS: without its library, a command names the package to install.
refuses() {
  if newcomer "$1 $2" > "$scratch/output" 2>&1; then fail "$suite: $2 passed without its library"; fi
  expect "$3" "$scratch/output"
}

# serves PROGRAM
serves() {
  newcomer "$1 serve tiny --port 0 --quiet > served 2>&1 & server=\$!
    for _ in \$(seq 100); do grep -q /v1 served && break; sleep 0.1; done
    exec 5<> /dev/tcp/127.0.0.1/\$(sed -n 's/.*:\([0-9]*\)\/v1.*/\1/p' served)
    printf 'GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n' >&5
    cat <&5; kill \$server" > "$scratch/output" 2>&1 || { cat "$scratch/output"; fail "$suite: serve"; }
  expect '"tiny"' "$scratch/output"
}

try_archive() {
  fresh archive
  cp "$archive" "$root/home/newcomer/"
  for word in swift cc clang gcc lua; do
    if administrator "command -v $word" > /dev/null; then fail "$suite: the root is not clean, it has $word"; fi
  done
  quickstart "tar xzf qlora-*.tar.gz && qlora-*/bin/qlora-run quickstart.lua"
  newcomer 'mkdir "a b" && mv qlora-*/ "a b/ü" && ln -s "../a b/ü/bin/qlora-run" "a b/run" && "a b/run" --list' \
    > "$scratch/output"
  expect quickstart "$scratch/output"
  refuses '"a b/run"' "fetch $name" "install libcurl4"
  refuses '"a b/run"' "serve tiny" "install libmicrohttpd12"
  # Packages of newer systems have another name.
  case $suite in bookworm) t64="" ;; *) t64=t64 ;; esac
  install "libcurl4$t64 libmicrohttpd12$t64 lua-cjson"
  smollm2 '"a b/run"' '"a b/ü/share/qlora/data/word_problems.jsonl"'
  serves '"a b/run"'
  newcomer '"a b/run" -e "print(require([[cjson]]).encode { 1, 2 })"' > "$scratch/output"
  expect '\[1,2\]' "$scratch/output"
}

try_package() {
  fresh package
  cp "$package" "$root/tmp/"
  install "bash-completion /tmp/$(basename "$package")"
  quickstart "qlora-run quickstart.lua"
  smollm2 qlora-run /usr/share/qlora/data/word_problems.jsonl
  serves qlora-run
  administrator "dpkg --verify qlora && zcat /usr/share/man/man1/qlora-run.1.gz | grep -q qlora-run"
  newcomer "source /usr/share/bash-completion/completions/qlora-run && complete -p qlora-run" > "$scratch/output"
  administrator "apt-get purge -y -q qlora > /dev/null 2>&1; ! command -v qlora-run; ! test -e /usr/share/qlora" ||
    fail "$suite: the package leaves something behind"
}

for suite in "${suites[@]}"; do
  try_archive
  rm -rf --one-file-system "$root"
  try_package
  rm -rf --one-file-system "$root"
done
echo "roots.sh: archive and package hold in ${suites[*]}"
