package Greet::Made;
use strict;
use warnings;
our $VERSION = '1.0';

sub greet { return "hello from Perl $VERSION" }

1;
__END__

=head1 NAME

Greet::Made - greets

=cut
