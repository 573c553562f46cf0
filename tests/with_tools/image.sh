#!/usr/bin/env bash
# Builds the image of contrib/image without a daemon or a registry, and runs it: image.sh PROGRAM FOLDER. It runs as root
# in namespaces of its own (image.rs), so that its ports and processes are its own.
set -euo pipefail
program=$1 folder=$2
cd "$(dirname "$0")/../.."
ip link set lo up
# What buildah writes beside its storage is within the folder, too.
mkdir -p "$folder/temporary" "$folder/lib"
export TMPDIR=$folder/temporary
mount --bind "$folder/lib" /var/lib
storage=(buildah --root "$folder/root" --runroot "$folder/run" --storage-driver vfs)
isolated=(--isolation chroot)

# In the place of the base image, which a registry would have: the libraries that the program needs, of this machine.
mkdir -p "$folder/base/files" "$folder/context/target/image"
ldd "$program" | grep -o '/[^ ]*' | xargs -I{} cp -L --parents {} "$folder/base/files"
printf 'FROM scratch\nCOPY files /\n' >"$folder/base/Dockerfile"
"${storage[@]}" bud -q "${isolated[@]}" --format docker -t base "$folder/base" >/dev/null

# And in the place of a compiler, the program that the tests run.
cp -r --parents contrib/image "$folder/context"
cp "$program" "$folder/context/target/image/herd-mio"
echo "no authority" >"$folder/context/target/image/ca-certificates.crt"
"${storage[@]}" bud -q "${isolated[@]}" --format docker -t herd-mio -f contrib/image/Dockerfile \
    --build-arg BASE=localhost/base --build-arg PROGRAM=prebuilt "$folder/context" >/dev/null
"${storage[@]}" inspect --type image herd-mio >"$folder/image.json"

container=$("${storage[@]}" from herd-mio)
run() { "${storage[@]}" run "${isolated[@]}" "$container" -- "$@"; }
config() { jq -r ".Docker.config | $1 | .[]" "$folder/image.json"; }
mapfile -t entry < <(config .Entrypoint)
mapfile -t command < <(config .Cmd)
mapfile -t check < <(config '.Healthcheck.Test[1:]')

run "${entry[@]}" --version
run "${entry[@]}" --check --config /etc/herd-mio/herd.toml >/dev/null
if run "${check[@]}" 2>"$folder/early"; then
    echo "healthy without a server"
fi

run "${entry[@]}" "${command[@]}" 2>"$folder/log" &
server=$!
until run "${check[@]}" 2>/dev/null; do
    kill -0 "$server" # It has not ended.
    sleep 0.1
done
exec 3<>/dev/tcp/127.0.0.1/12138
echo 'IAMAT kiwi +1.0-2.0 1' >&3
read -r answer <&3
echo "$answer"
process=$(pgrep -u 65532 -x herd-mio)
kill -"$(jq -r .Docker.config.StopSignal "$folder/image.json")" "$process"
wait "$server"
echo "status $?"
