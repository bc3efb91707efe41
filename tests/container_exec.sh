#!/usr/bin/env bash
# Stands in for `apptainer exec [--bind PATH[,PATH]...] FOLDER COMMAND...` in tests/container.sh, for root alone: an
# image is a folder, read-only; /dev, /proc, /sys, /tmp, the home, the current folder and what is bound are this
# machine's; the folder's %environment wins over the caller's, and what it sets to nothing is taken out.
# CONTAINER_USER=uid:gid runs the command as another user; Apptainer never changes the user.
set -euo pipefail
die() { printf 'apptainer exec, stand-in: %s\n' "$*" >&2; exit 255; }

[ "${1:-}" = exec ] || die "there is exec and nothing else, not '${1:-}'"
shift
IFS=, read -ra folders <<< "${APPTAINER_BIND:-}"
while [[ ${1:-} = -* ]]; do
    [ "$1" = --bind ] || die "there is --bind and no other option, not $1"
    IFS=, read -ra more <<< "$2"
    folders+=("${more[@]}")
    shift 2
done
export ROOT=$1
shift
[ -x "$ROOT/bin/sh" ] || die "$ROOT holds no root file system"
for folder in "${folders[@]}"; do
    [ -d "$folder" ] || die "$folder cannot be bound: there is no such folder"
done

# Both come from outside in a real container, and both may be links that lead nowhere inside.
for file in /etc/resolv.conf /etc/hosts; do
    [ -f "$ROOT$file" ] && [ ! -L "$ROOT$file" ] || { rm -f "$ROOT$file"; touch "$ROOT$file"; }
done
for folder in /dev /proc /sys /tmp "$HOME" "$PWD" "${folders[@]}"; do
    [ "$folder" = / ] || mkdir -p "$ROOT$folder"
done

export CONTAINER_USER=${CONTAINER_USER:-$(id -u):$(id -g)}
# shellcheck disable=SC2016
exec unshare --mount --propagation private bash -euc '
    mount --bind "$ROOT" "$ROOT"
    mount -o remount,bind,ro "$ROOT"
    for folder in /dev /proc /sys; do mount --rbind "$folder" "$ROOT$folder"; done
    for file in /etc/resolv.conf /etc/hosts; do mount --bind "$file" "$ROOT$file"; done
    count=$1; shift
    for folder in /tmp "$HOME" "$PWD" "${@:1:count}"; do
        [ "$folder" = / ] || mount --bind "$folder" "$ROOT$folder"
    done
    shift "$count"
    export APPTAINER_CONTAINER=$ROOT WHERE=$PWD PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    unset APPTAINER_BIND LD_LIBRARY_PATH
    exec chroot --userspec="$CONTAINER_USER" --groups= "$ROOT" /bin/sh -c "
        . /.singularity.d/env/90-environment.sh
        for name in \$(env | sed -n \"s/^\\([A-Za-z_][A-Za-z0-9_]*\\)=\$/\\1/p\"); do unset \"\$name\"; done
        cd \"\$WHERE\" && exec \"\$@\"
    " sh "$@"
' bash "${#folders[@]}" "${folders[@]}" "$@"
