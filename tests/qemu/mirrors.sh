# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Finds the Debian mirror this machine already uses, in its apt sources, and writes from it the sources of a build
# root. Nothing is trusted that the machine's own debian-archive-keyring does not sign. To be sourced after lib.sh.

KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

# One line a configured source: URI SUITE. Reads both formats of apt; only binary sources with a component 'main'.
configured_sources()
{
	local etc=${GMEMFD_APT_ETC:-/etc/apt} files=() file
	for file in "$etc"/sources.list "$etc"/sources.list.d/*.list "$etc"/sources.list.d/*.sources; do
		[[ -r $file ]] && files+=("$file")
	done
	((${#files[@]})) || return 0
	perl - "${files[@]}" <<-'PERL'
		use strict;
		use warnings;

		sub source_line {
			my ($types, $uris, $suites, $components) = @_;
			return unless grep { $_ eq 'deb' } split ' ', $types;
			return unless grep { $_ eq 'main' } split ' ', $components;
			for my $uri (split ' ', $uris) {
				$uri =~ s{/+$}{};
				print "$uri $_\n" for split ' ', $suites;
			}
		}

		for my $file (@ARGV) {
			open my $in, '<', $file or die "$file: $!\n";
			my @lines = <$in>;
			close $in or die "$file: $!\n";
			if ($file =~ /\.list$/) {
				for (@lines) {
					s/#.*//;
					source_line($1, $2, $3, $4)
						if /^\s*(deb)\s+(?:\[[^\]]*\]\s*)?(\S+)\s+(\S+)\s+(.*\S)/;
				}
				next;
			}
			my (%field, $last);
			for (@lines, "\n") {
				next if /^#/;
				if (/^\s*$/) {
					my $enabled = lc($field{enabled} // 'yes');
					source_line(map { $_ // '' } @field{qw(types uris suites components)})
						unless $enabled =~ /^\s*(no|false|off|0|without|disable)\s*$/;
					%field = ();
					undef $last;
				} elsif (/^(\S+?)\s*:\s*(.*)/) {
					$last = lc $1;
					$field{$last} = $2;
				} elsif (/^\s+(.*)/ && defined $last) {
					$field{$last} .= " $1";
				}
			}
		}
	PERL
}

# The machine's apt settings a root needs to reach the mirror in the same way (proxies, retries, date checks).
machine_apt_options()
{
	apt-config dump | grep -E '^Acquire::(https?|Retries|Check-Valid-Until|Check-Date)(::|[[:space:]])' |
		grep -vE '::User-Agent|::AutoDetect|::Proxy-Auto-Detect| "";$' || [[ $? == 1 ]]
}

# has_suite URI SUITE LABEL: whether the mirror holds that suite of that archive of Debian.
has_suite()
{
	local file found=1
	file=$(mktemp)
	if /usr/lib/apt/apt-helper download-file "$1/dists/$2/InRelease" "$file" >/dev/null 2>&1 &&
	   grep -qxE 'Origin: Debian( Backports)?' "$file" && grep -qx "Label: $3" "$file"; then
		found=0
	fi
	rm -f "$file"
	return "$found"
}

# find_archive LABEL SUITE URI...: the first of the URIs that holds SUITE of the archive called LABEL.
find_archive()
{
	local label=$1 suite=$2 uri
	shift 2
	for uri; do
		if has_suite "$uri" "$suite" "$label"; then
			printf '%s\n' "$uri"
			return
		fi
	done
	return 1
}

# root_sources RELEASE: the lines of a sources.list for a root of that Debian release, from this machine's mirror.
root_sources()
{
	local release=$1 sources archive security suite uris
	[[ -r $KEYRING ]] || die "$KEYRING is missing: install debian-archive-keyring"
	sources=$(configured_sources)

	mapfile -t uris < <(awk 'NF && $2 !~ /security|\/updates$/ && $1 !~ /^(cdrom|file|copy):/ && !seen[$1]++ { print $1 }' \
		<<<"$sources")
	((${#uris[@]})) || die "no Debian archive is among this machine's apt sources; the roots are made from it"
	archive=$(find_archive Debian "$release" "${uris[@]}") ||
		die "none of this machine's apt sources holds Debian's suite $release (or the mirror does not answer)"
	for suite in "$release" "$release-updates" "$release-backports"; do
		if [[ $suite == "$release" ]] || has_suite "$archive" "$suite" Debian ||
		   has_suite "$archive" "$suite" 'Debian Backports'; then
			printf 'deb [signed-by=%s] %s %s main\n' "$KEYRING" "$archive" "$suite"
		else
			say "the mirror has no suite $suite; going on without it"
		fi
	done

	# A machine without the security archive among its sources: mirrors hold it beside the other one.
	mapfile -t uris < <(awk '$2 ~ /security|\/updates$/ && !seen[$1]++ { print $1 }' <<<"$sources")
	if security=$(find_archive Debian-Security "$release-security" "${uris[@]}" "${archive%/debian}/debian-security"); then
		printf 'deb [signed-by=%s] %s %s main\n' "$KEYRING" "$security" "$release-security"
	else
		say "the mirror has no suite $release-security; going on without it"
	fi
}
