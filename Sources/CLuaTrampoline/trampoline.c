#include "cluatrampoline.h"
