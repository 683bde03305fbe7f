// Functions of Lua's libraries that loop as often as an argument or a metamethod says, which may be for ever: each turn
// is counted, so that an interrupt or a limit on instructions ends them. Results and errors are Lua's own.
#include "machine.h"
#include <string.h>

/* Whether the value at an index may stand for a list: a table, or what has these metamethods. */
static void check_list(lua_State *L, int index, const char *const *methods) {
  if (lua_type(L, index) == LUA_TTABLE) return;
  int top = lua_gettop(L), is_list = lua_getmetatable(L, index);
  for (; is_list && *methods; methods++) {
    lua_pushstring(L, *methods);
    is_list = lua_rawget(L, top + 1) != LUA_TNIL;
    lua_pop(L, 1);
  }
  lua_settop(L, top);
  if (!is_list) luaL_checktype(L, index, LUA_TTABLE);
}

static const char *const readable[] = {"__index", NULL};
static const char *const writable[] = {"__newindex", NULL};
static const char *const whole[] = {"__index", "__newindex", "__len", NULL};

/* to[at] = from[index] */
static void copy(lua_State *L, int from, lua_Integer index, int to, lua_Integer at) {
  ql_count(L, 1);
  lua_geti(L, from, index);
  lua_seti(L, to, at);
}

static int table_insert(lua_State *L) {
  check_list(L, 1, whole);
  lua_Integer end = (lua_Integer)((lua_Unsigned)luaL_len(L, 1) + 1), at = end;
  int arguments = lua_gettop(L);
  if (arguments != 2 && arguments != 3) return luaL_error(L, "wrong number of arguments to 'insert'");
  if (arguments == 3) {
    at = luaL_checkinteger(L, 2);
    luaL_argcheck(L, (lua_Unsigned)at - 1u < (lua_Unsigned)end, 2, "position out of bounds");
    for (lua_Integer i = end; i > at; i--) copy(L, 1, i - 1, 1, i);
  }
  lua_seti(L, 1, at);
  return 0;
}

static int table_remove(lua_State *L) {
  check_list(L, 1, whole);
  lua_Integer size = luaL_len(L, 1), at = luaL_optinteger(L, 2, size);
  if (at != size) luaL_argcheck(L, (lua_Unsigned)at - 1u <= (lua_Unsigned)size, 2, "position out of bounds");
  lua_geti(L, 1, at);
  for (; at < size; at++) copy(L, 1, at + 1, 1, at);
  lua_pushnil(L);
  lua_seti(L, 1, at);
  return 1;
}

static int table_move(lua_State *L) {
  lua_Integer first = luaL_checkinteger(L, 2), last = luaL_checkinteger(L, 3), at = luaL_checkinteger(L, 4);
  int to = lua_isnoneornil(L, 5) ? 1 : 5;
  check_list(L, 1, readable), check_list(L, to, writable);
  if (last >= first) {
    luaL_argcheck(L, first > 0 || last < LUA_MAXINTEGER + first, 3, "too many elements to move");
    lua_Integer count = last - first + 1;
    luaL_argcheck(L, at <= LUA_MAXINTEGER - count + 1, 4, "destination wrap around");
    if (at > last || at <= first || (to != 1 && !lua_compare(L, 1, to, LUA_OPEQ))) {
      for (lua_Integer i = 0; i < count; i++) copy(L, 1, first + i, to, at + i);
    } else {
      for (lua_Integer i = count - 1; i >= 0; i--) copy(L, 1, first + i, to, at + i);
    }
  }
  lua_pushvalue(L, to);
  return 1;
}

/* Nothing repeated is nothing, however often; all else is bounded by memory. Upvalue: Lua's own function. */
static int string_rep(lua_State *L) {
  size_t size, separator = 0;
  luaL_checklstring(L, 1, &size);
  luaL_checkinteger(L, 2);
  luaL_optlstring(L, 3, "", &separator);
  if (size == 0 && separator == 0) return lua_pushliteral(L, ""), 1;
  int arguments = lua_gettop(L);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, arguments, 1);
  return 1;
}

void ql_install_loops(lua_State *L) {
  const luaL_Reg table[] = {
      {"insert", table_insert}, {"remove", table_remove}, {"move", table_move}, {NULL, NULL}};
  lua_getglobal(L, "table");
  luaL_setfuncs(L, table, 0);
  lua_getglobal(L, "string");
  lua_getfield(L, -1, "rep");
  lua_pushcclosure(L, string_rep, 1);
  lua_setfield(L, -2, "rep");
  lua_pop(L, 2);
}
