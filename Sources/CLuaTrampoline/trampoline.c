#include "trampoline.h"
#include <signal.h>
#include <string.h>

static ql_dispatcher dispatcher;
static void (*release_object)(void *object);
static char library_prefix[4096];

void ql_set_dispatcher(ql_dispatcher d) { dispatcher = d; }
void ql_set_release(void (*release)(void *object)) { release_object = release; }
void ql_set_library_prefix(const char *prefix) { strncpy(library_prefix, prefix, sizeof library_prefix - 1); }

void *ql_context(lua_State *L) { return *(void **)lua_getextraspace(L); }
void ql_set_context(lua_State *L, void *context) { *(void **)lua_getextraspace(L) = context; }

/* Pushes "file:line: " of the innermost Lua function outside the library, or of the innermost one. */
static void push_position(lua_State *L) {
  lua_Debug ar;
  size_t prefix = strlen(library_prefix);
  for (int level = 1; lua_getstack(L, level, &ar); level++) {
    lua_getinfo(L, "Sl", &ar);
    if (ar.currentline <= 0) continue;
    if (prefix > 0 && strncmp(ar.source, library_prefix, prefix) == 0) continue;
    lua_pushfstring(L, "%s:%d: ", ar.short_src, ar.currentline);
    return;
  }
  luaL_where(L, 1);
}

static int trampoline(lua_State *L) {
  int status = dispatcher(L, (int)lua_tointeger(L, lua_upvalueindex(1)));
  if (status >= 0) return status;
  if (status == QL_RAISE) {
    push_position(L);
    lua_insert(L, -2);
    lua_concat(L, 2);
  }
  return lua_error(L);
}

void ql_pushfunction(lua_State *L, int number) {
  lua_pushinteger(L, number);
  lua_pushcclosure(L, trampoline, 1);
}

static int box_gc(lua_State *L) {
  ql_box *box = ql_to_box(L, 1);
  if (box && box->object) {
    void *object = box->object;
    box->object = NULL;
    release_object(object);
  }
  return 0;
}

static int push_object(lua_State *L) {
  ql_box *box = lua_newuserdatauv(L, sizeof *box, 0);
  box->magic = QL_MAGIC;
  box->object = NULL;
  box->class_name = lua_touserdata(L, 1);
  if (luaL_newmetatable(L, lua_touserdata(L, 1))) {
    lua_pushcfunction(L, box_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  box->object = lua_touserdata(L, 2);
  return 1;
}

int ql_push_object(lua_State *L, const char *class_name, void *object) {
  lua_pushcfunction(L, push_object);
  lua_pushlightuserdata(L, (void *)class_name);
  lua_pushlightuserdata(L, object);
  return lua_pcall(L, 2, 1, 0);
}

ql_box *ql_to_box(lua_State *L, int index) {
  if (lua_type(L, index) != LUA_TUSERDATA || lua_rawlen(L, index) != sizeof(ql_box)) return NULL;
  ql_box *box = lua_touserdata(L, index);
  return box->magic == QL_MAGIC ? box : NULL;
}

static int message_handler(lua_State *L) {
  if (lua_type(L, 1) != LUA_TSTRING) return 1;
  luaL_traceback(L, L, lua_tostring(L, 1), 1);
  return 1;
}

int ql_pcall(lua_State *L, int arguments, int results, int traceback) {
  if (!traceback) return lua_pcall(L, arguments, results, 0);
  int base = lua_gettop(L) - arguments;
  lua_pushcfunction(L, message_handler);
  lua_insert(L, base);
  int status = lua_pcall(L, arguments, results, base);
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
  lua_pushcfunction(L, protected_tostring);
  lua_pushvalue(L, index);
  if (lua_pcall(L, 1, 1, 0) != LUA_OK) {
    lua_pop(L, 1);
    lua_pushfstring(L, "(a %s whose __tostring fails)", luaL_typename(L, index));
  }
}

void ql_pop(lua_State *L, int count) { lua_pop(L, count); }
void ql_remove(lua_State *L, int index) { lua_remove(L, index); }
void ql_pushglobals(lua_State *L) { lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS); }
void ql_pushfree(lua_State *L) { lua_pushcfunction(L, box_gc); }
int ql_upvalueindex(int n) { return lua_upvalueindex(n); }

static int protected_ref(lua_State *L) {
  lua_pushinteger(L, luaL_ref(L, LUA_REGISTRYINDEX));
  return 1;
}

int ql_ref(lua_State *L) {
  lua_pushcfunction(L, protected_ref);
  lua_insert(L, -2);
  if (lua_pcall(L, 1, 1, 0) != LUA_OK) {
    lua_pop(L, 1);
    return LUA_NOREF;
  }
  int ref = (int)lua_tointeger(L, -1);
  lua_pop(L, 1);
  return ref;
}

void ql_unref(lua_State *L, int ref) { luaL_unref(L, LUA_REGISTRYINDEX, ref); }
void ql_pushref(lua_State *L, int ref) { lua_rawgeti(L, LUA_REGISTRYINDEX, ref); }

int ql_load(lua_State *L, const char *bytes, size_t count, const char *chunk_name) {
  /* Text only: precompiled chunks can crash the virtual machine. */
  return luaL_loadbufferx(L, bytes, count, chunk_name, "t");
}

void ql_collect(lua_State *L) { lua_gc(L, LUA_GCCOLLECT); }

void ql_account(lua_State *L, long long bytes, long long live) {
  static long long debt;
  debt += bytes;
  if (debt < (live / 4 > (1 << 20) ? live / 4 : (1 << 20))) return;
  debt = 0;
  lua_gc(L, LUA_GCCOLLECT);
}

/* Interrupts */

static lua_State *main_state;
static lua_State *volatile current;
static volatile sig_atomic_t interrupts, taken, polls;

static void stop(lua_State *L, lua_Debug *ar) {
  (void)ar;
  // A second interrupt also stops code that catches the error of the first and goes on: the hook stays.
  if (interrupts - taken < 2) lua_sethook(L, NULL, 0, 0);
  luaL_error(L, "interrupted");
}

void ql_set_main(lua_State *L) {
  main_state = L;
  current = NULL;
  polls = 0; // what interrupts meant to the state before does not concern this one
  taken = interrupts;
}
void ql_set_polling(int polling) { polls = polling; }

int ql_interrupt(void) {
  interrupts = interrupts + 1;
  int pending = interrupts - taken;
  if (polls && pending < 2) return pending;
  lua_State *L = current ? current : main_state;
  if (L) lua_sethook(L, stop, LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT, 1);
  return pending;
}

int ql_take_interrupt(void) {
  if (interrupts == taken) return 0;
  taken = interrupts;
  return 1;
}

void ql_forget_interrupts(void) {
  taken = interrupts;
  if (main_state) lua_sethook(main_state, NULL, 0, 0);
  if (current) lua_sethook(current, NULL, 0, 0);
}

int ql_is_stopping(void) { return interrupts - taken > (polls ? 1 : 0); }

static int resume(lua_State *L, lua_State *co, int arguments) {
  if (!lua_checkstack(co, arguments)) {
    lua_pushliteral(L, "too many arguments to resume");
    return -1;
  }
  if (lua_status(co) == LUA_OK && lua_gettop(co) == 0) {
    lua_pushliteral(L, "cannot resume dead coroutine");
    return -1;
  }
  lua_xmove(L, co, arguments);
  lua_State *before = current;
  current = co;
  int results;
  int status = lua_resume(co, L, arguments, &results);
  current = before;
  if (status != LUA_OK && status != LUA_YIELD) {
    lua_xmove(co, L, 1);
    return -1;
  }
  if (!lua_checkstack(L, results + 1)) {
    lua_pop(co, results);
    lua_pushliteral(L, "too many results to resume");
    return -1;
  }
  lua_xmove(co, L, results);
  return results;
}

static int coroutine_resume(lua_State *L) {
  lua_State *co = lua_tothread(L, 1);
  luaL_argexpected(L, co, 1, "coroutine");
  int results = resume(L, co, lua_gettop(L) - 1);
  lua_pushboolean(L, results >= 0);
  lua_insert(L, results >= 0 ? -(results + 1) : -2);
  return results >= 0 ? results + 1 : 2;
}

static int wrapped(lua_State *L) {
  lua_State *co = lua_tothread(L, lua_upvalueindex(1));
  int results = resume(L, co, lua_gettop(L));
  if (results >= 0) return results;
  int status = lua_status(co);
  if (status != LUA_OK && status != LUA_YIELD) lua_resetthread(co);
  if (lua_type(L, -1) == LUA_TSTRING) {
    luaL_where(L, 1);
    lua_insert(L, -2);
    lua_concat(L, 2);
  }
  return lua_error(L);
}

static int coroutine_wrap(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_State *co = lua_newthread(L);
  lua_pushvalue(L, 1);
  lua_xmove(L, co, 1);
  lua_pushcclosure(L, wrapped, 1);
  return 1;
}

void ql_install_coroutines(lua_State *L) {
  lua_getglobal(L, "coroutine");
  lua_pushcfunction(L, coroutine_resume);
  lua_setfield(L, -2, "resume");
  lua_pushcfunction(L, coroutine_wrap);
  lua_setfield(L, -2, "wrap");
  lua_pop(L, 1);
}
