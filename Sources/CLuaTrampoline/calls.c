// Functions of Lua that call others and must keep the machine's record right: coroutines and xpcall.
#include "machine.h"
#include <string.h>

/* Coroutines: resume and wrap that record the running thread */

/* A table whose weak keys are the coroutines that died of a stop. */
static const char stopped_key;

static void note_stopped(lua_State *L, lua_State *co) {
  if (!lua_checkstack(L, 4)) return;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &stopped_key);
  lua_pushthread(co);
  lua_xmove(co, L, 1);
  lua_pushboolean(L, 1);
  lua_rawset(L, -3);
  lua_pop(L, 1);
}

/* Whether what a coroutine would close has to stay as it is: the hook that stopped it never returned, and while Lua
   thinks of it as running there is no other, so that nothing could stop a closing method. */
static int died_of_stop(lua_State *L, lua_State *co) {
  luaL_checkstack(L, 3, NULL);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &stopped_key);
  lua_pushthread(co);
  lua_xmove(co, L, 1);
  int is_noted = lua_rawget(L, -2) != LUA_TNIL;
  lua_pop(L, 2);
  return is_noted;
}

enum { deepest_closing = 2 << 20 }; // bytes of C stack

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
  ql_machine *machine = ql_machine_of(L);
  // A new thread counts from 0, so that many short ones would never be counted.
  if (lua_status(co) == LUA_OK) machine->instructions += instruction_stride;
  lua_State *before = machine->running;
  unsigned stops = machine->stops;
  machine->running = co;
  int results;
  int status = lua_resume(co, L, arguments, &results);
  machine->running = before;
  if (status != LUA_OK && status != LUA_YIELD && machine->stops != stops) note_stopped(L, co);
  if (status == LUA_ERRMEM) { // the text that Lua has for it names no line
    machine->native = 1; // the text itself is not refused
    lua_pushfstring(L, "%snot enough memory for Lua", machine->position);
    machine->native = machine->is_over = 0;
    return -1;
  }
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
  if (status != LUA_OK && status != LUA_YIELD && !died_of_stop(L, co)) {
    // An error of a closing method takes the place of the first, which the methods are given.
    lua_pushvalue(L, -1);
    lua_xmove(L, co, 1);
    lua_resetthread(co);
    lua_xmove(co, L, 1);
  }
  if (status != LUA_ERRMEM && lua_type(L, -1) == LUA_TSTRING) {
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

/* Lua's own, with the depth watched: Lua counts calls in C anew in each coroutine whose closing methods run. */
static int coroutine_close(lua_State *L) {
  lua_State *co = lua_tothread(L, 1);
  luaL_argexpected(L, co, 1, "coroutine");
  char here, *outermost = ql_machine_of(L)->stack;
  if (outermost && outermost - &here > deepest_closing) return luaL_error(L, "C stack overflow");
  lua_settop(L, 1);
  if (died_of_stop(L, co)) {
    lua_pushboolean(L, 0);
    lua_pushliteral(L, "the coroutine was stopped");
    return 2;
  }
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, 1, LUA_MULTRET);
  return lua_gettop(L);
}

/* xpcall */

static lua_CFunction traceback; // Lua's own, which runs no other function

static int is_stop(lua_State *L) {
  if (ql_is_interruption(L, 1)) return 1;
  const char *text = ql_machine_of(L)->limit_text;
  return lua_type(L, 1) == LUA_TSTRING && *text && !strncmp(lua_tostring(L, 1), text, QL_LIMIT_TEXT_SIZE - 1);
}

/* A message handler that is not asked about a stop: it would run inside of the hook that raised it, where no other hook
   can stop it. */
static int handle(lua_State *L) {
  if (is_stop(L)) return 1;
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, lua_gettop(L) - 1, 1);
  return 1;
}

static int finish(lua_State *L, int status, lua_KContext before) {
  if (status == LUA_OK || status == LUA_YIELD) return lua_gettop(L) - (int)before;
  lua_pushboolean(L, 0);
  lua_pushvalue(L, -2);
  return 2;
}

/* Lua's own, but for the handler. */
static int guarded_xpcall(lua_State *L) {
  int arguments = lua_gettop(L) - 2;
  luaL_checktype(L, 2, LUA_TFUNCTION);
  if (lua_tocfunction(L, 2) != traceback) {
    lua_pushvalue(L, 2);
    lua_pushcclosure(L, handle, 1);
    lua_replace(L, 2);
  }
  lua_pushboolean(L, 1);
  lua_pushvalue(L, 1);
  lua_rotate(L, 3, 2);
  return finish(L, lua_pcallk(L, arguments, LUA_MULTRET, 2, 2, finish), 2);
}

void ql_install_calls(lua_State *L) {
  lua_getglobal(L, "debug");
  lua_getfield(L, -1, "traceback");
  traceback = lua_tocfunction(L, -1);
  lua_pop(L, 2);
  lua_register(L, "xpcall", guarded_xpcall);
  lua_newtable(L);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "k");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &stopped_key);
  lua_getglobal(L, "coroutine");
  lua_getfield(L, -1, "close");
  lua_pushcclosure(L, coroutine_close, 1);
  lua_setfield(L, -2, "close");
  lua_pushcfunction(L, coroutine_resume);
  lua_setfield(L, -2, "resume");
  lua_pushcfunction(L, coroutine_wrap);
  lua_setfield(L, -2, "wrap");
  lua_pop(L, 1);
}
