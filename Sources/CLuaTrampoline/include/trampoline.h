// The only code that raises Lua errors on behalf of Swift. A Swift callback returns a status; the error is raised here,
// after the Swift frames are gone, because lua_error jumps. Nothing that Swift calls here jumps: while Swift runs, no
// hook raises and no memory is refused.
#pragma once
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

/// Statuses below zero: raise the string on top with the position of the running script; raise the value on top as it is.
#define QL_RAISE (-1)
#define QL_RETHROW (-2)

/// What a program would do with a path: read it, write it, remove or rename the entry of its folder.
#define QL_READS 0
#define QL_WRITES 1
#define QL_ENTERS 2

/// Called for every native function: the calling thread and the body given to `ql_pushfunction`, NULL when it is gone.
/// Returns the number of results on top of the stack or a status.
typedef int (*ql_dispatcher)(lua_State *L, void *body);

/// A userdata that owns a reference to a Swift object.
typedef struct {
  unsigned long long magic;
  void *object;
  const char *class_name;
} ql_box;
#define QL_MAGIC 0x716c6f72615f6278ull

/// An interpreter with Lua's libraries; NULL without memory.
lua_State *ql_new_state(void);
void ql_close(lua_State *L);
/// The Swift object behind an interpreter, the same for all its threads.
void *ql_context(lua_State *L);
void ql_set_context(lua_State *L, void *context);

void ql_set_dispatcher(ql_dispatcher dispatcher);
/// Frees the Swift object of a box; called by __gc.
void ql_set_release(void (*release)(void *object));
/// Chunk names that start with this prefix are the library's: errors are positioned at the caller outside it.
void ql_set_library_prefix(const char *prefix);

/// Pushes a function that runs `body`, a reference that it takes over and drops when the function is collected.
void ql_pushfunction(lua_State *L, void *body);
/// Pushes a box with the metatable registered under `class_name`; takes over the reference.
void ql_push_object(lua_State *L, const char *class_name, void *object);
/// Pushes the function that closes a box ahead of the collector, for `free` and `__close`.
void ql_pushfree(lua_State *L);
/// The box at an index, or NULL for anything else.
ql_box *ql_to_box(lua_State *L, int index);
/// Calls the function below its arguments, with a traceback handler when `traceback`.
int ql_pcall(lua_State *L, int arguments, int results, int traceback);
/// Text of the value at an index as `tostring` gives it, pushed; an error in __tostring gives a substitute.
void ql_tostring(lua_State *L, int index);
void ql_pop(lua_State *L, int count);
void ql_remove(lua_State *L, int index);
void ql_pushglobals(lua_State *L);
int ql_ref(lua_State *L);
void ql_unref(lua_State *L, int ref);
void ql_pushref(lua_State *L, int ref);
int ql_load(lua_State *L, const char *bytes, size_t count, const char *chunk_name);

/// Accounts native memory taken by a new Lua object: a collection runs when what was taken since the last one exceeds
/// max(1 MiB, live / 4).
void ql_account(lua_State *L, long long bytes, long long live);

/// From now on `admit` is asked before Lua's heap grows; what it refuses is an error in Lua.
void ql_set_admission(lua_State *L, int (*admit)(void *context, long long growth));
/// Gives free memory of the process back.
void ql_trim_heap(void);
/// Bytes of Lua's heap.
long long ql_held(lua_State *L);
/// Bytes that were refused last.
long long ql_wanted(lua_State *L);
/// Where memory was refused last, "recipe.lua:3: ".
const char *ql_memory_position(lua_State *L);
/// Whether the running native function has taken more memory for Lua than was admitted, also after a collection.
int ql_is_short(lua_State *L);
/// Asks for memory that is not on Lua's heap; makes the native function short where it is refused.
int ql_reserve(lua_State *L, long long bytes);
/// The same as `ql_is_short`; the next native function starts anew.
int ql_take_shortage(lua_State *L);
/// Virtual machine instructions until an error ends the program; 0 for no end.
void ql_limit_instructions(lua_State *L, long long count);

/// Replaces coroutine.resume, wrap and close and xpcall by versions that an interrupt and a limit on instructions end:
/// they record the running thread, and run nothing of the program inside of the hook that stops it.
void ql_install_calls(lua_State *L);
/// Replaces what loads chunks by versions for text alone, and takes from the debug library what ends the process.
void ql_install_libraries(lua_State *L);
/// Replaces string.find, match, gmatch and gsub by versions that an interrupt and a limit on instructions end.
void ql_install_patterns(lua_State *L);
/// The same for the functions that loop as often as an argument says: string.rep, table.insert, move and remove.
void ql_install_loops(lua_State *L);
/// Leaves of the libraries what leads to no file that `allows` refuses, and to no other program.
void ql_install_sandbox(lua_State *L, int (*allows)(void *context, const char *path, int use));

/// Async-signal-safe: counts an interrupt and, unless the script polls and this is the first, stops it with an error.
int ql_interrupt(void);
/// Whether the value at an index is the error that an interrupt raises.
int ql_is_interruption(lua_State *L, int index);
/// While polling, the first interrupt is only counted.
void ql_set_polling(int polling);
/// Whether an interrupt came since the last call.
int ql_take_interrupt(void);
/// Forgets the interrupts so far, so that what runs next is not stopped by them.
void ql_forget_interrupts(void);
/// Whether an interrupt is about to stop the running code; native functions that take long ask.
int ql_is_stopping(void);
