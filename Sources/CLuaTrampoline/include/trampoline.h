// The only code that raises Lua errors on behalf of Swift. A Swift callback returns a status; the error is raised here,
// after the Swift frames are gone, because lua_error jumps.
#pragma once
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

/// Statuses below zero: raise the string on top with the position of the running script; raise the value on top as it is.
#define QL_RAISE (-1)
#define QL_RETHROW (-2)

/// Called for every native function: the state and the number given to `ql_pushfunction`. Returns the number of results
/// on top of the stack or a status.
typedef int (*ql_dispatcher)(lua_State *L, int number);

/// A userdata that owns a reference to a Swift object.
typedef struct {
  unsigned long long magic;
  void *object;
  const char *class_name;
} ql_box;
#define QL_MAGIC 0x716c6f72615f6278ull

void ql_set_dispatcher(ql_dispatcher dispatcher);
/// Frees the Swift object of a box; called by __gc.
void ql_set_release(void (*release)(void *object));
/// Chunk names that start with this prefix are the library's: errors are positioned at the caller outside it.
void ql_set_library_prefix(const char *prefix);

void *ql_context(lua_State *L);
void ql_set_context(lua_State *L, void *context);

void ql_pushfunction(lua_State *L, int number);
/// Pushes a box with the metatable registered under `class_name`; takes over the reference. 0, or an error status.
int ql_push_object(lua_State *L, const char *class_name, void *object);
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
int ql_upvalueindex(int n);
int ql_ref(lua_State *L);
void ql_unref(lua_State *L, int ref);
void ql_pushref(lua_State *L, int ref);
int ql_load(lua_State *L, const char *bytes, size_t count, const char *chunk_name);
/// A full collection.
void ql_collect(lua_State *L);
/// Accounts native memory taken by a new Lua object: a collection runs when what was taken since the last one exceeds
/// max(1 MiB, live / 4).
void ql_account(lua_State *L, long long bytes, long long live);

/// Replaces coroutine.resume and wrap by versions that record the running thread, so that an interrupt reaches it.
void ql_install_coroutines(lua_State *L);
/// Async-signal-safe: counts an interrupt and, unless the script polls and this is the first, stops it with an error.
int ql_interrupt(void);
void ql_set_main(lua_State *L);
/// While polling, the first interrupt is only counted.
void ql_set_polling(int polling);
/// Whether an interrupt came since the last call.
int ql_take_interrupt(void);
/// Forgets the interrupts so far, so that what runs next is not stopped by them.
void ql_forget_interrupts(void);
/// Whether an interrupt is about to stop the running code; native functions that take long ask.
int ql_is_stopping(void);
