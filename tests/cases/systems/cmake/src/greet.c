#include "greet.h"
#include <assert.h>
/* __FILE__ and assert() bring the path of the source into the binary. */
const char *greet(void) { assert(sizeof __FILE__ > 1); return GREETING " from a library made by CMake " GREET_VERSION; }
