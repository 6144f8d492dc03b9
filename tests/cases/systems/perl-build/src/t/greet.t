use strict;
use warnings;
use Test::More tests => 1;
use Greet::Built;
is(Greet::Built::greet(), 'hello from Perl 1.0');
