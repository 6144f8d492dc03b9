#include "config.h"
#include "greet.h"
const char *greet(void) { return GREETING " from a library made by Meson " GREET_VERSION; }
