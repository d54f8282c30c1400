#!/usr/bin/perl
# SPDX-License-Identifier: GPL-2.0-only
#
# Compares what built modules import with symbols.txt: imports.pl SYMBOLS IMPORTS, where IMPORTS has lines 'KERNEL NAME'.
# Prints what is imported but not listed, and what is listed as needed but imported for no kernel.
use strict;
use warnings;

my ($symbols, $imports) = @ARGV;
defined $imports or die "usage: imports.pl SYMBOLS IMPORTS\n";

my (%listed, @patterns, @required);
open my $in, '<', $symbols or die "$symbols: $!\n";
while (<$in>) {
	next if /^\s*(#|$)/;
	my ($names, $kind) = split;
	defined $kind && $kind =~ /^(any|plain|gpl|maybe|tool)$/ or die "$symbols:$.: not a symbol and its kind\n";
	if ($kind eq 'tool') {
		my $pattern = join '', map { $_ eq '*' ? '.*' : quotemeta } split /(\*)/, $names;
		push @patterns, qr/^$pattern$/;
		next;
	}
	for my $name (split /\|/, $names) {
		print "src/compat/symbols.txt:$.: $name is listed twice\n" if $listed{$name};
		$listed{$name} = 1;
	}
	push @required, [ $., $names ] if $kind ne 'maybe';
}
close $in or die "$symbols: $!\n";

my (%imported, %unlisted);
open $in, '<', $imports or die "$imports: $!\n";
while (<$in>) {
	my ($kernel, $name) = split;
	defined $name or die "$imports:$.: not a kernel and a name\n";
	$imported{$name} = 1;
	next if $listed{$name} || grep { $name =~ $_ } @patterns;
	push @{ $unlisted{$name} }, $kernel;
}
close $in or die "$imports: $!\n";

for my $name (sort keys %unlisted) {
	print "$name: imported (@{ $unlisted{$name} }), but not in src/compat/symbols.txt\n";
}
for (@required) {
	my ($line, $names) = @$_;
	print "src/compat/symbols.txt:$line: $names: listed, but imported for no kernel\n"
		unless grep { $imported{$_} } split /\|/, $names;
}
