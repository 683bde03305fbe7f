// What the C files of this target share: the record of one interpreter, reached from each of its threads.
#pragma once
#include "trampoline.h"

enum { QL_LIMIT_TEXT_SIZE = LUA_IDSIZE + 80 };

typedef struct {
  void *context; // the Swift object behind the interpreter
  lua_State *main;
  lua_State *volatile running; // the coroutine that runs; NULL for the main thread
  /* Swift code runs. Nothing may jump over its frames then: no hook raises and no allocation is refused. */
  int native;
  long long held;     // bytes of Lua's heap
  long long admitted; // what `held` may become before `admit` is asked again
  int (*admit)(void *context, long long growth);
  int is_over;  // under a native function the heap grew beyond what is admitted; a collection may make room
  int is_short; // it did not: what the function builds is not whole, and it ends in an error
  long long wanted; // bytes that were refused last
  void *refused; // the block that was last not given, and the size that it was to have
  size_t refused_size;
  int refusals;         // of that block and size, one after the other
  int pending_refusals; // allocations that are refused next
  char position[LUA_IDSIZE + 32]; // where memory ran out, "recipe.lua:3: "
  long long instructions, instruction_limit; // 0 for none
  size_t steps; // of library functions in C since the last look at interrupts and limit
  unsigned stops; // errors that asked the program to end: interrupts, and the limit of instructions
  char limit_text[QL_LIMIT_TEXT_SIZE]; // the beginning of what the limit said last
  char *stack; // where the C stack was when Swift called Lua first
  int (*gate)(void *context, const char *path, int use);
} ql_machine;

static inline ql_machine *ql_machine_of(lua_State *L) { return *(ql_machine **)lua_getextraspace(L); }

/// Pushes "file:line: " of the innermost Lua function from `level` on that is not the library's.
void ql_push_position(lua_State *L, int level);
/// Raises an interruption.
int ql_stop(lua_State *L, int level);

/// Instructions between two looks at the limit.
enum { instruction_stride = 10000 };

/// A look at interrupts and limit, which may raise; `steps` count as instructions.
void ql_look(lua_State *L);

/// Counts steps of a library function in C whose arguments decide how long it runs: no hook sees it.
static inline void ql_count(lua_State *L, size_t steps) {
  ql_machine *machine = ql_machine_of(L);
  if ((machine->steps += steps) >= 1 << 16) ql_look(L);
}
