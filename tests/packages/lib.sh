# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# What the scripts that run inside a system share: their cases, and what they look at. To be sourced.
#
# A script sets CASES, the names of its functions case_NAME in their order, and calls run_cases. A case fails if any of
# its commands does; what it prints is shown then. The lines "ok NAME" and "not ok NAME" are what `run` counts.

die()
{
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# run_cases LOGS
run_cases()
{
	local name status
	mkdir -p "$1"
	for name in "${CASES[@]}"; do
		status=0
		set +e
		(set -eo pipefail; "case_$name") >"$1/$name.log" 2>&1 </dev/null
		status=$?
		set -e
		if ((status)); then
			printf 'not ok %s\n# status %s; the log is %s\n' "$name" "$status" "$1/$name.log"
			tail -n 15 "$1/$name.log" | sed 's/^/# /'
		else
			printf 'ok %s\n' "$name"
		fi
	done
}

# same WHAT WANTED FOUND
same()
{
	[[ $2 == "$3" ]] || die "$1: wanted '$2', found '$3'"
}

# has FILE TEXT: the file has a line with this text.
has()
{
	grep -qF -- "$2" "$1" || die "$1 does not say '$2'"
}

has_not()
{
	! grep -qF -- "$2" "$1" || die "$1 says '$2'"
}

# Everything in the system, but what keeps changing by itself.
file_list()
{
	find / -xdev \( -path /proc -o -path /dev -o -path /tmp -o -path /var/log -o -path /var/cache \
		-o -path /var/lib/apt -o -path /var/lib/dpkg/updates -o -path /var/lib/dpkg/triggers \) -prune -o \
		-printf '%p %y %M %U %G\n' |
		grep -vE '^/var/lib/dpkg/[a-z]+-old |^/var/lib/dkms/mok\.|^/(usr/)?lib/modules/[^/]+/modules\.' | sort
}

# The releases whose headers are installed.
releases()
{
	local dir
	for dir in /lib/modules/*/build/include; do
		[[ ! -d $dir ]] || { dir=${dir%/build/include}; printf '%s\n' "${dir##*/}"; }
	done
}

# The module file that is installed for a release; it has to be exactly one.
module_of()
{
	local found
	mapfile -t found < <(find "/lib/modules/$1/" -xdev -name 'gmemfd.ko*' ! -path '*/build/*' ! -path '*/source/*')
	((${#found[@]} == 1)) || die "$1: wanted one module, found: ${found[*]}"
	printf '%s\n' "${found[0]}"
}

# keep_module RELEASE DIR: the module and what modprobe's tools look up, for the guest; DIR/gmemfd.ko is not compressed.
keep_module()
{
	local ko
	ko=$(module_of "$1")
	mkdir -p "$2"
	case $ko in
	*.xz) xz -dc "$ko" >"$2/gmemfd.ko" ;;
	*.zst) zstd -qdc "$ko" >"$2/gmemfd.ko" ;;
	*.ko) cp "$ko" "$2/gmemfd.ko" ;;
	*) die "$ko: how is that compressed?" ;;
	esac
	# DKMS makes no index where the kernel itself is not installed.
	if [[ -e /lib/modules/$1/modules.dep.bin ]]; then
		cp "/lib/modules/$1"/modules.*.bin "$2"
	fi
}

# One of the module as DKMS installs it: signed, and of this version.
check_module()
{
	local ko release=$1 version=$2
	ko=$(module_of "$release")
	same "$ko: version" "$version" "$(modinfo -F version "$ko")"
	same "$ko: signer" 'DKMS module signing key' "$(modinfo -F signer "$ko")"
	[[ $(modinfo -F vermagic "$ko") == "$release "* ]] || die "$ko is for $(modinfo -F vermagic "$ko")"
	same "dkms status" "gmemfd/$version, $release, x86_64: installed" "$(dkms status -m gmemfd -v "$version" -k "$release")"
}
