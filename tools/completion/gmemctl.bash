# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Completion of gmemctl for bash: asks gmemctl itself.

_gmemctl()
{
	local word='' line kind='' last='' i words=()
	# bash splits "--option=value" at the '=', and replaces only what is behind it.
	for ((i = 1; i <= COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		if [[ $word == '=' && $last == --* ]]; then
			word=''
			((i == COMP_CWORD)) || continue
		fi
		words+=("$word")
		last=$word
	done
	COMPREPLY=()
	while IFS= read -r line; do
		case $line in
		:*) kind=${line#:} ;;
		*) COMPREPLY+=("${line%%$'\t'*}") ;;
		esac
	done < <("${COMP_WORDS[0]}" complete "${words[@]}" 2>/dev/null)
	case $kind in
	file) compopt -o filenames; mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$word") ;;
	dir) compopt -o filenames; mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -d -- "$word") ;;
	command) mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -c -- "$word") ;;
	esac
}

complete -F _gmemctl gmemctl
