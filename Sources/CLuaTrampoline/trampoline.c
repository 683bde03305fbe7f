// Native functions and bound objects.
#include "machine.h"
#include <string.h>

static ql_dispatcher dispatcher;
static void (*release_object)(void *object);

void ql_set_dispatcher(ql_dispatcher d) { dispatcher = d; }
void ql_set_release(void (*release)(void *object)) { release_object = release; }

static int trampoline(lua_State *L) {
  ql_machine *machine = ql_machine_of(L);
  ql_box *body = ql_to_box(L, lua_upvalueindex(1));
  int before = machine->native;
  machine->native = 1;
  int status = dispatcher(L, body ? body->object : NULL);
  machine->native = before;
  // From here on errors may jump. An interrupt that came meanwhile goes before what the function says of it.
  if (!before && ql_is_stopping()) return ql_stop(L, 1);
  if (status >= 0) return status;
  if (status == QL_RAISE) {
    ql_push_position(L, 1);
    lua_insert(L, -2);
    lua_concat(L, 2);
  }
  return lua_error(L);
}

void ql_pushfunction(lua_State *L, void *body) {
  ql_push_object(L, "native function", body);
  lua_pushcclosure(L, trampoline, 1);
}

static int box_gc(lua_State *L) {
  ql_box *box = ql_to_box(L, 1);
  if (box && box->object) {
    void *object = box->object;
    box->object = NULL;
    // Swift code runs in what is released.
    ql_machine *machine = ql_machine_of(L);
    int before = machine->native;
    machine->native = 1;
    release_object(object);
    machine->native = before;
  }
  return 0;
}

void ql_push_object(lua_State *L, const char *class_name, void *object) {
  ql_box *box = lua_newuserdatauv(L, sizeof *box, 0);
  box->magic = QL_MAGIC;
  box->object = NULL;
  box->class_name = class_name;
  if (luaL_newmetatable(L, class_name)) {
    lua_pushcfunction(L, box_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  box->object = object;
}

ql_box *ql_to_box(lua_State *L, int index) {
  if (lua_type(L, index) != LUA_TUSERDATA || lua_rawlen(L, index) != sizeof(ql_box)) return NULL;
  ql_box *box = lua_touserdata(L, index);
  return box->magic == QL_MAGIC ? box : NULL;
}

static int message_handler(lua_State *L) {
  if (ql_is_interruption(L, 1) && lua_getfield(L, 1, "message") == LUA_TSTRING) {
    luaL_traceback(L, L, lua_tostring(L, -1), 1);
    lua_setfield(L, 1, "message");
    lua_settop(L, 1);
    return 1;
  }
  if (lua_type(L, 1) != LUA_TSTRING) return 1;
  luaL_traceback(L, L, lua_tostring(L, 1), 1);
  return 1;
}

/* Lua runs: errors jump to here, and no further. */
static int protected_call(lua_State *L, int arguments, int results, int handler) {
  ql_machine *machine = ql_machine_of(L);
  int before = machine->native;
  char here, *stack = machine->stack;
  machine->native = 0;
  if (!stack) machine->stack = &here;
  int status = lua_pcall(L, arguments, results, handler);
  machine->native = before;
  machine->stack = stack;
  return status;
}

int ql_pcall(lua_State *L, int arguments, int results, int traceback) {
  if (!traceback) return protected_call(L, arguments, results, 0);
  int base = lua_gettop(L) - arguments;
  lua_pushcfunction(L, message_handler);
  lua_insert(L, base);
  int status = protected_call(L, arguments, results, base);
  lua_remove(L, base);
  return status;
}

static int protected_tostring(lua_State *L) {
  luaL_tolstring(L, 1, NULL);
  return 1;
}

void ql_tostring(lua_State *L, int index) {
  index = lua_absindex(L, index);
  if (lua_type(L, index) == LUA_TSTRING) { // the text of "C stack overflow" must not need another call
    lua_pushvalue(L, index);
    return;
  }
  // Nor may that of an interruption: after the second the hook stays, and would stop the call.
  if (ql_is_interruption(L, index)) {
    if (lua_getfield(L, index, "message") == LUA_TSTRING) return;
    lua_pop(L, 1);
  }
  lua_pushcfunction(L, protected_tostring);
  lua_pushvalue(L, index);
  if (protected_call(L, 1, 1, 0) != LUA_OK) {
    lua_pop(L, 1);
    lua_pushfstring(L, "(a %s whose __tostring fails)", luaL_typename(L, index));
  }
}

void ql_pop(lua_State *L, int count) { lua_pop(L, count); }
void ql_remove(lua_State *L, int index) { lua_remove(L, index); }
void ql_pushglobals(lua_State *L) { lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS); }
void ql_pushfree(lua_State *L) { lua_pushcfunction(L, box_gc); }

int ql_ref(lua_State *L) { return luaL_ref(L, LUA_REGISTRYINDEX); }
void ql_unref(lua_State *L, int ref) {
  if (lua_checkstack(L, 4)) luaL_unref(L, LUA_REGISTRYINDEX, ref);
}
void ql_pushref(lua_State *L, int ref) { lua_rawgeti(L, LUA_REGISTRYINDEX, ref); }

int ql_load(lua_State *L, const char *bytes, size_t count, const char *chunk_name) {
  ql_machine *machine = ql_machine_of(L);
  int before = machine->native;
  machine->native = 0;
  /* Text only: precompiled chunks can crash the virtual machine. */
  int status = luaL_loadbufferx(L, bytes, count, chunk_name, "t");
  machine->native = before;
  return status;
}

void ql_account(lua_State *L, long long bytes, long long live) {
  static long long debt;
  debt += bytes;
  if (debt < (live / 4 > (1 << 20) ? live / 4 : (1 << 20))) return;
  debt = 0;
  lua_gc(L, LUA_GCCOLLECT);
}
