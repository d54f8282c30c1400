# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# What every script of the bench shares: where things are, how it speaks, how it locks, the table of kernels, and
# how a command is run inside a build root. To be sourced; does nothing by itself but set variables.

TREE=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd -P)
BENCH=$TREE/tests/qemu
# shellcheck disable=SC2034 # for the scripts that source this
BUILD=$TREE/build
CACHE=${GMEMFD_CACHE:-${XDG_CACHE_HOME:-${HOME:?HOME is not set}/.cache}/gmemfd}
KERNELS_LIST=$BENCH/kernels.list
export GMEMFD_CACHE=$CACHE

say()
{
	printf '%s\n' "$*" >&2
}

die()
{
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

need_root()
{
	[[ $(id -u) == 0 ]] || die "the build roots are chroots: this has to run as root"
}

# lock NAME|PATH: held until the script (or subshell) that took it ends. One script takes a lock only once.
lock()
{
	local fd path=$CACHE/locks/$1
	[[ $1 != */* ]] || path=$1
	mkdir -p "${path%/*}"
	exec {fd}>"$path"
	flock -n "$fd" && return
	say "waiting for another run that holds the lock ${path##*/}"
	flock "$fd"
}

# The digest of what is read from stdin.
digest()
{
	sha256sum | cut -c1-32
}

# kernel_field ID FIELD: one field of a kernel's line in kernels.list.
kernel_field()
{
	local -A column=([root]=2 [boot]=3 [flavours]=4 [series]=5 [abi]=6)
	local value
	value=$(awk -v id="$1" -v column="${column[$2]:?no such field: $2}" \
		'!/^#/ && $1 == id { print $column }' "$KERNELS_LIST")
	[[ -n $value ]] || die "no kernel '$1' in kernels.list"
	printf '%s\n' "$value"
}

# kernel_ids all|boot: the ids in kernels.list, in its order.
kernel_ids()
{
	awk -v which="$1" '!/^#/ && NF && (which == "all" || $3 == "yes") { print $1 }' "$KERNELS_LIST"
}

root_dir()
{
	printf '%s\n' "$CACHE/roots/$1"
}

# Runs in a mount namespace of its own; what it mounts goes when the command ends. The binds come before /proc
# and /dev, for the cache holds the root itself. The command is exec'ed, so that signals reach it.
# shellcheck disable=SC2016 # expanded by the inner shell
ENTER_ROOT='
set -euo pipefail
root=$1 tree=$2 cache=$3 cwd=$4
shift 4
for dir in "$cache" "$tree"; do
	case $dir in /tmp/*) ;; *) mkdir -p "$root$dir"; mount --rbind "$dir" "$root$dir" ;; esac
done
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
for dir in "$cache" "$tree"; do
	case $dir in /tmp/*) mkdir -p "$root$dir"; mount --rbind "$dir" "$root$dir" ;; esac
done
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
exec chroot "$root" /usr/bin/env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
	TERM="${TERM:-dumb}" GMEMFD_CACHE="$cache" DEBIAN_FRONTEND=noninteractive \
	/bin/bash -c '\''cd "$0" && exec "$@"'\'' "$cwd" "$@"
'

# enter_root DIR CMD...: run CMD in the root that lives in DIR.
enter_root()
{
	local root=$1 cwd=$PWD
	shift
	case $cwd/ in
	"$TREE"/* | "$CACHE"/*) ;;
	*) cwd=$TREE ;;
	esac
	unshare --mount --propagation private /bin/bash -c "$ENTER_ROOT" enter-root \
		"$root" "$TREE" "$CACHE" "$cwd" "$@"
}

# in_root ROOT CMD...: run CMD in the named root, which `roots` has made.
in_root()
{
	local root
	root=$(root_dir "$1")
	shift
	need_root
	[[ -e $root.stamp ]] || die "no root ${root##*/}; 'tests/qemu/roots' makes it"
	enter_root "$root" "$@"
}

# compile_tests TARGET...: what runs in the guest, and on the host beside it; whatever else of this tree does the same waits.
compile_tests()
{
	(
		lock "$BUILD/tests.lock"
		in_root trixie make --no-print-directory -s -C "$TREE" -f tests/qemu/tests.mk -j2 "$@"
	)
}
