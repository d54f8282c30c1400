#!/usr/bin/perl
# SPDX-License-Identifier: GPL-2.0-only
#
# Writes a C file whose assembly has the size of every struct of a header, and the offset and size of each of its members,
# in lines that begin with '->', so that nothing has to be run, which machines cannot do with all that they can compile:
# layout.pl HEADER NAME-TO-INCLUDE. Reads what headers of an ABI may contain, and dies on anything else.
use strict;
use warnings;

my ($header, $include) = @ARGV;
defined $include or die "usage: layout.pl HEADER NAME-TO-INCLUDE\n";

open my $in, '<', $header or die "$header: $!\n";
my $text = do { local $/; <$in> };
close $in or die "$header: $!\n";

$text =~ s{/\*.*?\*/}{ }gs;
$text =~ s{//[^\n]*}{}g;
$text =~ s{\\\n}{ }g;
$text =~ s{^\s*#[^\n]*$}{}gm;

# An assembly line of a name and numbers that the compiler knows.
sub line {
	my ($name, @numbers) = @_;
	my $operands = join(', ', map { "\"i\" ($_)" } @numbers);
	print "\t__asm__ volatile(\"\\n->$name ", join(' ', map { "%c$_" } 0 .. $#numbers), "\" : : $operands);\n";
}

print "#include <stddef.h>\n#include <$include>\n\nvoid layout(void)\n{\n";
my $structs = 0;
while ($text =~ s/\bstruct\s+(\w+)\s*\{((?:[^{}]|\{[^{}]*\})*)\}\s*;//s) {
	my ($struct, $body) = ($1, $2);
	$structs++;
	line($struct, "sizeof(struct $struct)");
	# The members of a union or struct within have names of their own when it has none.
	$body =~ s/\b(?:union|struct)\s*\{([^{}]*)\}\s*;/$1/gs;
	my @named = $body =~ /\b(?:union|struct)\s*\{[^{}]*\}\s*(\w+)\s*;/gs;
	$body =~ s/\b(?:union|struct)\s*\{[^{}]*\}\s*\w+\s*;//gs;
	for my $member (@named, grep { /\S/ } split /;/, $body) {
		my $name;
		if ($member =~ /^\w+$/) {
			$name = $member;
		} elsif ($member =~ /^\s*(?:struct\s+)?\w+\s+(\w+)\s*((?:\[[^\]]*\])*)\s*$/s) {
			# An array without a size has an offset only.
			$name = $1;
			if ($2 eq '[]') {
				line("$struct.$name", "offsetof(struct $struct, $name)");
				next;
			}
		} else {
			die "$header: struct $struct: cannot read '$member'\n";
		}
		line("$struct.$name", "offsetof(struct $struct, $name)", "sizeof(((struct $struct *)0)->$name)");
	}
}
print "}\n";
die "$header: a struct that this program cannot read\n" if $text =~ /\bstruct\s+\w*\s*\{/;
die "$header: no struct at all\n" unless $structs;
