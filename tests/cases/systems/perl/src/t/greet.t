use strict;
use warnings;
use Test::More tests => 1;
use Greet::Made;
is(Greet::Made::greet(), 'hello from Perl 1.0');
