# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# The checks that read text only: licences, versions, heads and sizes of files, words that must not occur. To be sourced
# after lib.sh.

MAX_LINES=800

# The licence a file must carry, by where it lies.
licence_of()
{
	case $1 in
	include/uapi/*) echo '(GPL-2.0 WITH Linux-syscall-note OR MIT)' ;;
	lib/*) echo '(LGPL-2.1-or-later OR MIT)' ;;
	*) echo 'GPL-2.0-only' ;;
	esac
}

check_spdx()
{
	local file want have
	# Texts of licences are not themselves licensed; a file of data for a format without comments has none.
	while IFS= read -r file; do
		looked "$file"
		want=$(licence_of "$file")
		have=$(head -n 3 "$SUBJECT/$file" | sed -n 's/.*SPDX-License-Identifier: *//p' |
			sed 's/ *\(\*\/\|-->\)$//')
		if [[ -z $have ]]; then
			echo "$file: no SPDX line among the first three"
		elif [[ $have != "$want" && $have != "${want:1:-1}" ]]; then
			echo "$file: SPDX says '$have'; for this directory it is '$want'"
		fi
	done < <(files . ':!LICENSES' ':!COPYING' ':!*.gitkeep' ':!packaging/deb/changelog' ':!packaging/deb/copyright' \
		':!packaging/deb/source/format' ':!packaging/deb/*.dkms')
	while IFS= read -r file; do
		case $file in
		include/uapi/*) want='/* ' ;;
		*.h) want='/* ' ;;
		*.c) want='// ' ;;
		esac
		[[ $(head -n 1 "$SUBJECT/$file") == "${want}SPDX-License-Identifier: "* ]] ||
			echo "$file: the first line should begin with '${want}SPDX-License-Identifier:'"
	done < <(files '*.c' '*.h')
}

check_version()
{
	local version file line text found list
	version=$(assigned PACKAGE_VERSION dkms.conf)
	[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] || echo "dkms.conf: PACKAGE_VERSION is '$version'"
	[[ $(assigned PACKAGE_NAME dkms.conf) == gmemfd ]] || echo "dkms.conf: PACKAGE_NAME is not gmemfd"
	looked dkms.conf

	# The news speak of this version first.
	if [[ -e $SUBJECT/NEWS.md ]]; then
		looked NEWS.md
		found=$(sed -n 's/^## *v\?\([0-9][0-9.]*\).*/\1/p' "$SUBJECT/NEWS.md" | head -n 1)
		[[ $found == "$version" ]] || echo "NEWS.md: the newest entry is '$found', dkms.conf says $version"
	fi
	# Whoever else states the version of gmemfd must agree; most should derive it instead.
	for file in $(files 'packaging/*.spec'); do
		found=$(sed -n '/^%changelog/{n;s/.* - \([0-9.]*\)-[0-9]*$/\1/p}' "$SUBJECT/$file")
		[[ $found == "$version" ]] || echo "$file: the newest entry of its changelog is '$found', dkms.conf says $version"
	done
	mapfile -t list < <(files "packaging/*" Makefile "lib/*" "tools/*" README.md "src/*")
	while IFS=: read -r file line text; do
		looked "$file"
		found=$(grep -oE '[0-9]+\.[0-9]+\.[0-9]+' <<<"$text" | head -n 1)
		[[ $found == "$version" ]] || echo "$file:$line: states version $found, dkms.conf says $version"
	done < <(search '^(Version:|VERSION ?[:?]?=|pkgver=|# gmemfd|gmemfd \()[[:space:]]*v?[0-9]+\.[0-9]+\.[0-9]+' \
		"${list[@]}")
	while IFS= read -r file; do
		looked "$file"
		found=$(search "(MODULE_VERSION\\(|GMEMFD_(MODULE_)?VERSION(_STRING)? +)\"" "$file")
		[[ -z $found ]] || echo "$found: states the version; use GMEMFD_VERSION, which comes from dkms.conf"
	done < <(files 'src/*.c' 'src/*.h' 'tools/*.c' 'lib/*.c')
}

# The range of kernels is told in three places with three readers: the user, dkms, and the bench.
check_range()
{
	local oldest newest tested expression release
	oldest=$(assigned OLDEST_SUPPORTED src/compat/range.conf)
	newest=$(assigned NEWEST_TESTED src/compat/range.conf)
	looked src/compat/range.conf dkms.conf tests/qemu/kernels.list src/compat/compat.h
	[[ -n $oldest && -n $newest ]] || echo "src/compat/range.conf: does not state both ends"
	[[ $(assigned BUILD_EXCLUSIVE_KERNEL_MIN dkms.conf) == "$oldest" ]] ||
		echo "dkms.conf: BUILD_EXCLUSIVE_KERNEL_MIN is not $oldest (src/compat/range.conf)"
	# The same for DKMS that knows expressions only.
	expression=$(assigned BUILD_EXCLUSIVE_KERNEL dkms.conf)
	for release in "$oldest" "$newest" "${oldest%.*}.10" "$((${newest%.*} + 1)).0"; do
		[[ $expression && $release.0-amd64 =~ $expression ]] ||
			echo "dkms.conf: BUILD_EXCLUSIVE_KERNEL does not take $release"
	done
	for release in 5.10 "${oldest%.*}.$((${oldest##*.} - 1))"; do
		[[ $expression && ! $release.0-amd64 =~ $expression ]] || echo "dkms.conf: BUILD_EXCLUSIVE_KERNEL takes $release"
	done
	grep -qF "#if KERNEL_VERSION(${oldest/./, }, 0) > LINUX_VERSION_CODE" "$SUBJECT/src/compat/compat.h" ||
		echo "src/compat/compat.h: no #error for kernels older than $oldest"
	tested=$(awk '!/^#/ && $3 == "yes" && $5 ~ /^[0-9.]+$/ { print $5 }' "$SUBJECT/tests/qemu/kernels.list" | sort -V)
	[[ $(head -n 1 <<<"$tested") == "$oldest" ]] || echo "tests/qemu/kernels.list: $oldest is not the oldest booted"
	[[ $(tail -n 1 <<<"$tested") == "$newest" ]] || echo "tests/qemu/kernels.list: $newest is not the newest booted"
}

check_kernel_versions()
{
	local list
	mapfile -t list < <(files 'src/*' 'include/*')
	looked "${list[@]}"
	search '\b(LINUX_VERSION_CODE|KERNEL_VERSION|LINUX_VERSION_MAJOR|RHEL_RELEASE_CODE|UTS_RELEASE)\b' "${list[@]}" |
		grep -vE '^src/compat/compat\.h:[0-9]+:#if KERNEL_VERSION\([0-9, ]+\) > LINUX_VERSION_CODE$' ||
		[[ ${PIPESTATUS[0]} == 0 ]]
	if (($(grep -cE 'LINUX_VERSION_CODE' "$SUBJECT/src/compat/compat.h") > 1)); then
		echo "src/compat/compat.h: compares versions more than once"
	fi
}

check_stolen_symbols()
{
	local list
	mapfile -t list < <(files 'src/*.c' 'src/*.h')
	looked "${list[@]}"
	search '\b(kallsyms_\w+|(un)?register_k(ret)?probes?|kprobe_\w+|ftrace_set_filter\w*|module_kallsyms_\w+|sprint_symbol\w*|__symbol_get)\b' \
		"${list[@]}"
	search '\bstruct k(ret)?probe\b|linux/(kprobes|kallsyms|livepatch)\.h' "${list[@]}"
}

check_bug_on()
{
	local list
	mapfile -t list < <(files 'src/*.c' 'src/*.h')
	looked "${list[@]}"
	# A bug of ours must not take the machine down, nor flood its log.
	search '\b(BUG|BUG_ON|VM_BUG_ON\w*|panic)\(' "${list[@]}"
	search '\b(WARN|WARN_ON|WARN_TAINT|WARN_RATELIMIT|dump_stack)\(' "${list[@]}"
}

# Kernel differences have one address.
check_compat_only()
{
	local list
	mapfile -t list < <(files 'src/*.c' 'src/*.h' ':!src/compat')
	looked "${list[@]}"
	search '\bCOMPAT_[A-Z]' "${list[@]}"
	search 'linux/(pagevec|folio_batch|version)\.h' "${list[@]}"
}

check_probes()
{
	local file name macro names word used core
	mapfile -t core < <(files 'src/*.c' 'src/*.h' ':!src/compat')
	while IFS= read -r file; do
		looked "$file"
		name=${file##*/}
		name=${name%.c}
		macro=COMPAT_${name^^}
		for word in Since Names Delete; do
			grep -qE "^ \\* $word: +[^ ]" "$SUBJECT/$file" || echo "$file: the header has no '$word:' line"
		done
		grep -qE "^#ifn?def $macro\$" "$SUBJECT/src/compat/compat.h" || echo "$file: compat.h does not use $macro"
		names=$(sed -n 's/^ \* Names: *//p' "$SUBJECT/$file")
		used=no
		for word in $names; do
			((${#core[@]} == 0)) || [[ -z $(search "\\b$word\\b" "${core[@]}") ]] || used=yes
		done
		[[ $used == yes ]] || echo "$file: nothing in src/ uses $names: retire it"
	done < <(files 'src/compat/probes/have_*.c')
	while IFS= read -r macro; do
		name=${macro#COMPAT_}
		[[ -e $SUBJECT/src/compat/probes/${name,,}.c ]] || echo "src/compat/compat.h: $macro has no probe"
	done < <(grep -oE '\bCOMPAT_HAVE_\w+' "$SUBJECT/src/compat/compat.h" | sort -u)
}

# Every host this machine fetches packages from, and where the tree lies on it: nothing of that belongs in the tree.
private_words()
{
	local words=() word parent
	mapfile -t words < <(
		{
			cat /etc/apt/sources.list /etc/apt/sources.list.d/* /etc/apt/apt.conf.d/* 2>/dev/null || true
			printf '%s\n' "${http_proxy-}" "${https_proxy-}" "${GOPROXY-}" "${PIP_INDEX_URL-}" \
				"${NPM_CONFIG_REGISTRY-}"
		} | grep -oE 'https?://[^/ :"]+' | sed 's,.*://,,; s/.*@//' | sort -u
	)
	parent=${TREE%/*}
	case $parent in
	'' | /home | /root | /tmp | /usr/src | /usr/local/src | /opt | /srv | /var/tmp) words+=("$TREE") ;;
	*) words+=("$parent/") ;;
	esac
	for word in "${words[@]}" ${PRIVATE_WORDS-}; do
		printf '%s\n' "$word"
	done
}

check_private_words()
{
	local list words status=0
	mapfile -t list < <(files .)
	looked "${list[@]}"
	words=$(private_words)
	[[ -n $words ]] || echo "could not tell what the words are"
	(cd "$SUBJECT" && grep -HnIF -e "$words" "${list[@]}") || status=$?
	((status <= 1))
}

check_size()
{
	local file lines
	while IFS= read -r file; do
		looked "$file"
		lines=$(wc -l <"$SUBJECT/$file")
		((lines <= MAX_LINES)) || echo "$file: $lines lines; $MAX_LINES are enough for one subject"
	done < <(files '*.c' '*.h' '*.pl' ':(glob)**/Makefile' '*.mk'; files . | only_shell)
}

# A comment within the first lines, after SPDX and '#!', that says in words what the file owns.
check_head()
{
	local file
	while IFS= read -r file; do
		looked "$file"
		awk '
			NR > 40 { exit }
			{ line = $0; sub(/^[ \t]+/, "", line) }
			line ~ /SPDX-License-Identifier|^#!|^# shellcheck / { next }
			!comment && line ~ /^(#include|#ifndef|#define|#ifdef|#pragma|#if )/ { next }
			!comment && line == "" { next }
			line ~ /^(\/\*|\*|#|\/\/)/ {
				comment = 1
				sub(/^(\/\*+|\*+\/?|#+|\/\/)/, "", line)
				words += split(line, word, /[ \t]+/)
				next
			}
			{ exit }
			END { exit words < 8 }' "$SUBJECT/$file" ||
			echo "$file: does not say at its top what it owns"
	done < <(files '*.c' '*.h' '*.pl' ':!src/compat/probes'; files . | only_shell)
}

check_scripts()
{
	local file first
	while IFS= read -r file; do
		looked "$file"
		first=$(head -n 1 "$SUBJECT/$file")
		if [[ $first == '#!'* ]]; then
			[[ -x $SUBJECT/$file ]] || echo "$file: begins with #! and is not executable"
			if [[ $first == *bash* ]] && ! grep -qx 'set -euo pipefail' "$SUBJECT/$file"; then
				echo "$file: has no 'set -euo pipefail'"
			fi
		elif [[ -x $SUBJECT/$file ]]; then
			echo "$file: is executable and does not begin with #!"
		fi
	done < <(files . | while IFS= read -r file; do
		if [[ $(head -c 2 "$SUBJECT/$file" | tr -d '\0') == '#!' || -x $SUBJECT/$file ]]; then
			printf '%s\n' "$file"
		fi
	done)
}
