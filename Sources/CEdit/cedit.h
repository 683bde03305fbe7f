// libedit's readline interface. Its state is in global variables, which Swift 6 does not read; these functions do.
#pragma once
#include <stdio.h>
#include <editline/readline.h>

/// Starts the editor without signal handlers of its own: the program's decide what Ctrl-C means.
static inline void edit_start(void) {
  rl_readline_name = "qlora-run";
  rl_catch_signals = 0;
  rl_initialize();
}

/// The line being edited, and the byte offset of the cursor in it.
static inline const char *edit_line(void) { return rl_line_buffer; }
static inline int edit_point(void) { return rl_point; }
