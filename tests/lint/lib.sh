# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# What the checks share: which tree they look at, its files, and how a tool is run. To be sourced.
#
# A check is a function check_NAME: it prints its findings, one a line, on stdout, and what it looked at with
# `looked`. It is red if it found something, if it failed, or if it looked at nothing.
# SUBJECT is the tree that is checked: ours, or a sample that selftest has made.

# shellcheck source=tests/qemu/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../qemu/lib.sh"
# shellcheck disable=SC2034 # for the scripts that source this
LINT=$TREE/tests/lint
SUBJECT=${SUBJECT:-$TREE}
LOOKED=${LOOKED:-/dev/null}

# looked THING...: what a check has really examined; without any, it has proved nothing.
looked()
{
	(($# == 0)) || printf '%s\n' "$@" >>"$LOOKED"
}

# files PATTERN...: the files of the subject that match a git pathspec, tracked or new, but not ignored ones.
files()
{
	local file
	git -C "$SUBJECT" ls-files -co --exclude-standard -- "$@" | sort -u | while IFS= read -r file; do
		[[ ! -f $SUBJECT/$file || -L $SUBJECT/$file ]] || printf '%s\n' "$file"
	done
}

# Those of stdin that begin with '#!' and name bash or sh, or say to shellcheck that they are to be sourced.
only_shell()
{
	local file
	while IFS= read -r file; do
		if grep -qE '^#! ?(/usr)?/bin/(env )?(ba)?sh\b|^# shellcheck shell=' < <(head -n 5 "$SUBJECT/$file"); then
			printf '%s\n' "$file"
		fi
	done
}

# in_tools CMD...: in the root that has the tools, in the subject's directory.
in_tools()
{
	(cd "$SUBJECT" && in_root trixie "$@")
}

# search PATTERN FILE...: grep -nE with file names; finding nothing is no failure, failing is.
search()
{
	local status=0
	(($# > 1)) || return 0
	(cd "$SUBJECT" && grep -HnIE -e "$@") || status=$?
	((status <= 1))
}

# A setting of dkms.conf or of another file of shell assignments.
assigned()
{
	sed -n "s/^$1=\"\\(.*\\)\"\$/\\1/p" "$SUBJECT/$2"
}
