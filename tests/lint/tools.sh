# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# The checks that run a tool: checkpatch, kernel-doc, sparse, shellcheck, codespell, perl, the compilers on the header of
# the ABI, and nm on the built modules. To be sourced after lib.sh.

# The tools themselves, fetched at most once a run.
kernel_tools()
{
	if [[ -z ${KERNEL_TOOLS-} ]]; then
		KERNEL_TOOLS=$("$LINT/kernel-tools")
	fi
}

# What user space is not measured by: macros that exist in the kernel only, and advice about them.
USER_SPACE_IGNORE=ARRAY_SIZE,BIT_MACRO,CONST_STRUCT,PREFER_DEFINED_ATTRIBUTE_MACRO,PREFER_FALLTHROUGH
USER_SPACE_IGNORE+=,PREFER_KERNEL_TYPES,VOLATILE,USLEEP_RANGE,MSLEEP,AVOID_EXTERNS,STRCPY,STRLCPY,STRNCPY
# A test's macros declare its cases, and its tables are wider than code; both are what a harness is for.
TEST_IGNORE=$USER_SPACE_IGNORE,MACRO_ARG_REUSE,MACRO_ARG_UNUSED,MACRO_WITH_FLOW_CONTROL,COMPLEX_MACRO
# CAMELCASE is for the names of inttypes.h.
TEST_IGNORE+=,CAMELCASE,MULTISTATEMENT_MACRO_USE_DO_WHILE,EMBEDDED_FUNCTION_NAME,UNCOMMENTED_DEFINITION,SPLIT_STRING

# run_checkpatch FILE... -- ARGUMENT...
run_checkpatch()
{
	local list=() output
	while [[ $1 != -- ]]; do
		list+=("$1")
		shift
	done
	shift
	((${#list[@]})) || return 0
	looked "${list[@]}"
	# It asks git for names that may be in camel case. The repository of a worktree is not to be seen from the root: so an
	# empty one answers.
	if [[ ! -e ${WORKDIR:?}/empty.git ]]; then
		git init -q --bare "$WORKDIR/empty.git"
		git --git-dir="$WORKDIR/empty.git" -c user.name=lint -c user.email=lint commit-tree -m empty \
			4b825dc642cb6eb9a060e54bf8d69288fbee4904 >"$WORKDIR/empty.git/refs/heads/empty"
		git --git-dir="$WORKDIR/empty.git" symbolic-ref HEAD refs/heads/empty
	fi
	output=$(in_tools env GIT_DIR="$WORKDIR/empty.git" perl "$KERNEL_TOOLS/scripts/checkpatch.pl" --no-tree --strict \
		--terse --show-types --no-summary --color=never "$@" -f "${list[@]}" 2>&1) || [[ $? == 1 ]]
	if grep -qiE '^(Usage|.*checkpatch\.pl: )|No such file' <<<"$output"; then
		echo "checkpatch did not run: $(head -n 1 <<<"$output")"
	fi
	[[ -z $output ]] || printf '%s\n' "$output"
}

check_checkpatch()
{
	local list
	kernel_tools
	mapfile -t list < <(files 'src/*.c' 'src/*.h' 'include/*.h' ':!src/compat/compat.h' ':!src/trace.h')
	run_checkpatch "${list[@]}" --
	# TRACE_EVENT() has a layout of its own, which all tracepoints of the kernel follow.
	mapfile -t list < <(files src/trace.h)
	run_checkpatch "${list[@]}" -- --ignore OPEN_ENDED_LINE,PARENTHESIS_ALIGNMENT,SPACING
	# The one #error for kernels that are too old; check_kernel_versions sees to it that there is no other.
	mapfile -t list < <(files src/compat/compat.h)
	run_checkpatch "${list[@]}" -- --ignore LINUX_VERSION_CODE
	mapfile -t list < <(files 'lib/*.c' 'lib/*.h' 'tools/*.c' 'tools/*.h')
	run_checkpatch "${list[@]}" -- --ignore "$USER_SPACE_IGNORE" --max-line-length=120
	mapfile -t list < <(files 'tests/*.c' 'tests/*.h')
	run_checkpatch "${list[@]}" -- --ignore "$TEST_IGNORE" --max-line-length=120
}

check_kernel_doc()
{
	local list output
	kernel_tools
	mapfile -t list < <(files 'include/*.h' 'src/*.h' 'src/*.c' ':!src/compat/probes' 'lib/*.h')
	looked "${list[@]}"
	output=$(in_tools python3 "$KERNEL_TOOLS/tools/docs/kernel-doc" -none -Werror -Wall "${list[@]}" 2>&1) ||
		echo "kernel-doc ended with status $?"
	[[ -z $output ]] || printf '%s\n' "$output"
}

check_shellcheck()
{
	local list
	kernel_tools
	mapfile -t list < <(files . | only_shell)
	looked "${list[@]}"
	# The files that are sourced are found from the top of the tree, as the directives in the scripts name them.
	in_tools shellcheck --external-sources --source-path=SCRIPTDIR --source-path=. --format=gcc "${list[@]}" ||
		[[ $? == 1 ]]
}

check_codespell()
{
	local list
	kernel_tools
	mapfile -t list < <(files .)
	looked "${list[@]}"
	in_tools codespell --builtin clear,rare --ignore-words-list "$(grep -vE '^#|^$' "$LINT/words" | paste -sd,)" \
		"${list[@]}" || [[ $? == 65 ]]
}

check_perl()
{
	local list file
	kernel_tools
	mapfile -t list < <(files . | while IFS= read -r file; do
		if grep -qE '^#!.*perl' < <(head -n 1 "$SUBJECT/$file") || [[ $file == *.pl ]]; then
			printf '%s\n' "$file"
		fi
	done)
	looked "${list[@]}"
	for file in "${list[@]}"; do
		in_tools perl -wc "$file" 2>&1 | grep -v ' syntax OK$' || [[ ${PIPESTATUS[0]} == 0 ]] ||
			echo "$file: does not compile"
		grep -q '^use strict;' "$SUBJECT/$file" || echo "$file: no 'use strict'"
		grep -q '^use warnings' "$SUBJECT/$file" || echo "$file: no 'use warnings'"
	done
}

# Man pages: mandoc finds nothing, and the pages of ours that they send the reader to are there. It cannot know those of
# others.
check_man()
{
	local list page output there name section
	kernel_tools
	mapfile -t list < <(files '*.[1-8]')
	((${#list[@]})) || return 0
	looked "${list[@]}"
	# Its status says how grave the worst finding is.
	output=$(in_tools mandoc -T lint -W style "${list[@]}" 2>&1) || (($? <= 4)) || echo 'mandoc did not run'
	grep -v ' STYLE: referenced manual not found: ' <<<"$output" || [[ $? == 1 ]]
	# "gmemfd_copy 3" for each name that a page goes by.
	there=$(for page in "${list[@]}"; do
		sed -n "/^\\.Sh NAME/,/^\\.Nd/s/^\\.Nm \\([a-z0-9_]*\\).*/\\1 ${page##*.}/p" "$SUBJECT/$page"
	done)
	for page in "${list[@]}"; do
		while read -r name section; do
			grep -qxF "$name $section" <<<"$there" || echo "$page: there is no page $name($section)"
		done < <(sed -n 's/^\.Xr \([a-z]*gmem[a-z0-9_]*\) \([1-8]\).*/\1 \2/p' "$SUBJECT/$page" | sort -u)
	done
}

# The header of the ABI stands alone, in both languages, on 64 and 32 bits, and has no hole that is not named.
check_uapi_alone()
{
	local header language word output
	kernel_tools
	while IFS= read -r header; do
		looked "$header"
		for language in 'c -std=c11' 'c++ -std=c++17'; do
			for word in -m64 -m32; do
				# shellcheck disable=SC2086 # a language and its standard
				output=$(echo "#include \"$header\"" | in_tools gcc -x $language $word -Wall -Wextra -pedantic \
					-Wpadded -Werror -fsyntax-only -I. -Iinclude/uapi - 2>&1) || {
					printf '%s\n' "$output" | sed "s/^/($language $word) /"
				}
			done
		done
	done < <(files 'include/uapi/*.h')
}

# The same layout for 64-bit, 32-bit, C and C++ callers.
check_uapi_layout()
{
	local header language word dir reference='' name
	kernel_tools
	dir=$(mktemp -d "${WORKDIR:?}/layout.XXXXXX")
	while IFS= read -r header; do
		name=$(basename "$header" .h)
		"$LINT/layout.pl" "$SUBJECT/$header" "${header#include/uapi/}" >"$dir/$name.c" || {
			echo "$header: layout.pl cannot read it"
			continue
		}
		reference=''
		for language in c c++; do
			for word in -m64 -m32; do
				if ! in_tools gcc -x "$language" "$word" -w -Iinclude/uapi -S "$dir/$name.c" -o "$dir/$name.s"; then
					echo "$header: what has the layout does not compile ($language $word)"
					continue
				fi
				sed -n 's/^->//p' "$dir/$name.s" >"$dir/$name.$language$word"
				[[ -s $dir/$name.$language$word ]] || echo "$header: no struct found ($language $word)"
				if [[ -z $reference ]]; then
					reference=$dir/$name.$language$word
					mapfile -t lines <"$reference"
					looked "${lines[@]}"
				else
					diff --label "c -m64" --label "$language $word" -U0 "$reference" \
						"$dir/$name.$language$word" | sed "s,^,$header: ," || [[ ${PIPESTATUS[0]} == 1 ]]
				fi
			done
		done
	done < <(files 'include/uapi/*.h')
	rm -r "$dir"
}

# sparse reads the module as the newest kernel compiles it. Only what it says of our files counts.
# Distributions leave out the script that would switch it on, hence KBUILD_CHECKSRC in the place of C=2; and the release
# of sparse that they have does not know one builtin and cannot evaluate another, hence the two definitions.
check_sparse()
{
	local newest log output object
	kernel_tools
	if [[ -n ${SPARSE_LOG-} ]]; then
		log=$SPARSE_LOG
	else
		newest=$(assigned NEWEST_TESTED src/compat/range.conf)
		log=$BUILD/module/$newest.sparse/build.log
		# Made afresh, for an object that is not compiled is not read either; by one run of lint at a time.
		lock lint-sparse
		rm -rf "${log%/*}"
		output=$("$BENCH/kernel" build-module -o sparse "$newest" -- KBUILD_CHECKSRC=2 KBUILD_VERBOSE=1 \
			"CF=-D__typeof_unqual__=__typeof__ '-D__builtin_strlen(x)=(sizeof(x)-1)'" 2>&1) || {
			printf '%s\n' "$output"
		}
	fi
	# Objects without a line of sparse were not read by it.
	while IFS= read -r object; do
		if grep -qE "(^| )sparse .*[ /]${object%.o}\\.c(;|\$| )" "$log"; then
			looked "src/${object%.o}.c"
		else
			echo "src/${object%.o}.c: sparse has not read it"
		fi
	done < <(sed -n 's/^gmemfd-y *[+:]\?= *//p' "$SUBJECT/src/Kbuild" | tr " " "\n" | grep .)
	grep -E '^(\./|/[^ ]*/build/module/[^/ ]+/)?(src|include/uapi/linux)/[a-z0-9_/.-]+\.[ch]:[0-9]+:[0-9]+: (warning|error)' "$log" | sort -u ||
		[[ ${PIPESTATUS[0]} == 1 ]]
}

# What the built modules import against symbols.txt, both ways.
check_symbols()
{
	local modules=() module id imports
	kernel_tools
	imports=$(mktemp "${WORKDIR:?}/imports.XXXXXX")
	if [[ -n ${MODULES-} ]]; then
		read -ra modules <<<"$MODULES"
	else
		for id in $("$BENCH/kernel" list --boot); do
			[[ $id != debug || -e $CACHE/kernels/debug/release ]] || continue
			"$BENCH/kernel" build-module "$id" >"$imports" 2>&1 || {
				sed "s/^/$id: /" "$imports"
				continue
			}
			modules+=("$BUILD/module/$id/src/gmemfd.ko")
		done
	fi
	: >"$imports"
	for module in "${modules[@]}"; do
		looked "$module"
		id=${module%/src/gmemfd.ko}
		in_tools nm -u "$module" | awk -v id="${id##*/}" '{ print id, $2 }' >>"$imports"
	done
	[[ -s $imports ]] || echo "no module imports anything"
	"$LINT/imports.pl" "$SUBJECT/src/compat/symbols.txt" "$imports" || echo "imports.pl failed"
	rm "$imports"
}

# The table of docs/kvm.md is what the kernels say now.
check_kvm_table()
{
	local page=$SUBJECT/docs/kvm.md
	looked "$page"
	diff <(sed -n '/^<!-- begin: /,/^<!-- end -->$/p' "$page" | sed '1d;$d') <("$LINT/kvm-table") || true
}
