// Lua's libraries where they would end the process or lead out of a sandbox.
#include "machine.h"
#include <errno.h>
#include <string.h>

/* Chunks are text: precompiled ones can crash the virtual machine. These take the place of Lua's own and do not call
   them, since what is called can be had from debug.getinfo. */

static int result(lua_State *L, int status, int environment) {
  if (status != LUA_OK) {
    lua_pushnil(L);
    lua_insert(L, -2);
    return 2;
  }
  if (environment != 0) {
    lua_pushvalue(L, environment);
    if (!lua_setupvalue(L, -2, 1)) lua_pop(L, 1);
  }
  return 1;
}

/* Whether the mode at an index allows text; otherwise the two results of a failure are pushed. */
static int allows_text(lua_State *L, int index) {
  const char *mode = luaL_optstring(L, index, "t");
  if (strchr(mode, 't')) return 1;
  lua_pushnil(L);
  lua_pushfstring(L, "mode '%s' asks for a precompiled chunk, but only text is loaded", mode);
  return 0;
}

enum { piece = 5 }; // stack slot that keeps the text of a reader alive

static const char *read_piece(lua_State *L, void *unused, size_t *size) {
  (void)unused;
  luaL_checkstack(L, 2, "too many nested functions");
  lua_pushvalue(L, 1);
  lua_call(L, 0, 1);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    *size = 0;
    return NULL;
  }
  if (!lua_isstring(L, -1)) luaL_error(L, "reader function must return a string");
  lua_replace(L, piece);
  return lua_tolstring(L, piece, size);
}

static int text_load(lua_State *L) {
  int environment = lua_isnone(L, 4) ? 0 : 4;
  if (!allows_text(L, 3)) return 2;
  size_t size;
  const char *text = lua_tolstring(L, 1, &size);
  if (text) return result(L, luaL_loadbufferx(L, text, size, luaL_optstring(L, 2, text), "t"), environment);
  const char *name = luaL_optstring(L, 2, "=(load)");
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_settop(L, piece);
  return result(L, lua_load(L, read_piece, NULL, name, "t"), environment);
}

/* Whether the gate lets a file be read or written; the path as a message otherwise. */
static int is_allowed(lua_State *L, const char *path, int use) {
  ql_machine *machine = ql_machine_of(L);
  if (!machine->gate || !path) return 1;
  int before = machine->native;
  machine->native = 1;
  int allowed = machine->gate(machine->context, path, use);
  machine->native = before;
  if (!allowed)
    lua_pushfstring(L, "%s: this sandbox does not let it be %s", path, use == QL_READS ? "read" : "written");
  return allowed;
}

static int text_loadfile(lua_State *L) {
  const char *path = luaL_optstring(L, 1, NULL);
  int environment = lua_isnone(L, 3) ? 0 : 3;
  if (!allows_text(L, 2)) return 2;
  if (!is_allowed(L, path, QL_READS)) return result(L, LUA_ERRFILE, 0);
  return result(L, luaL_loadfilex(L, path, "t"), environment);
}

static int dofile_end(lua_State *L, int status, lua_KContext context) {
  (void)status, (void)context;
  return lua_gettop(L) - 1;
}

static int text_dofile(lua_State *L) {
  const char *path = luaL_optstring(L, 1, NULL);
  lua_settop(L, 1);
  if (!is_allowed(L, path, QL_READS) || luaL_loadfilex(L, path, "t") != LUA_OK) return lua_error(L);
  lua_callk(L, 0, LUA_MULTRET, 0, dofile_end);
  return dofile_end(L, 0, 0);
}

/* The searcher for files in Lua; its upvalue is `package`. */
static int text_searcher(lua_State *L) {
  luaL_checkstring(L, 1);
  lua_getfield(L, lua_upvalueindex(1), "searchpath");
  lua_pushvalue(L, 1);
  if (lua_getfield(L, lua_upvalueindex(1), "path") != LUA_TSTRING)
    return luaL_error(L, "'package.path' must be a string");
  lua_call(L, 2, 2);
  if (lua_isnil(L, -2)) return 1; // why it was not found
  lua_pop(L, 1);
  const char *path = luaL_checkstring(L, -1);
  if (luaL_loadfilex(L, path, "t") != LUA_OK)
    return luaL_error(L, "error loading module '%s' from file '%s':\n\t%s", lua_tostring(L, 1), path,
                      lua_tostring(L, -1));
  lua_insert(L, -2);
  return 2;
}

/* What native functions hold must not change under them: the debug library reaches Lua's own functions and tables. */

static int refused(lua_State *L) {
  return luaL_error(L, "%s is refused: it can end the process; what it reaches is not a program's to change",
                    lua_tostring(L, lua_upvalueindex(1)));
}

static int debug_setmetatable(lua_State *L) {
  luaL_argexpected(L, lua_isnil(L, 2) || lua_istable(L, 2), 2, "nil or table");
  if (lua_type(L, 1) == LUA_TUSERDATA)
    return luaL_error(L, "debug.setmetatable is refused for userdata: it can end the process");
  lua_settop(L, 2);
  lua_setmetatable(L, 1);
  return 1;
}

static int debug_setupvalue(lua_State *L) {
  luaL_checkany(L, 3);
  luaL_checktype(L, 1, LUA_TFUNCTION);
  if (lua_iscfunction(L, 1))
    return luaL_error(L, "debug.setupvalue is refused for native functions: it can end the process");
  const char *name = lua_setupvalue(L, 1, (int)luaL_checkinteger(L, 2));
  if (!name) return 0;
  lua_pushstring(L, name);
  return 1;
}

static int debug_setlocal(lua_State *L) {
  lua_State *thread = lua_isthread(L, 1) ? lua_tothread(L, 1) : L;
  int first = thread == L && !lua_isthread(L, 1) ? 1 : 2;
  lua_Debug ar;
  int level = (int)luaL_checkinteger(L, first), number = (int)luaL_checkinteger(L, first + 1);
  luaL_checkany(L, first + 2);
  if (!lua_getstack(thread, level, &ar)) return luaL_argerror(L, first, "level out of range");
  if (thread != L) luaL_argcheck(L, lua_checkstack(thread, 1), first, "stack overflow");
  const char *name = lua_getlocal(thread, &ar, number);
  if (!name) return 0;
  lua_pop(thread, 1);
  // Values without a name are the virtual machine's own, and it does not check them.
  if (name[0] == '(') return luaL_error(L, "debug.setlocal is refused for values without a name");
  lua_settop(L, first + 2);
  lua_xmove(L, thread, 1);
  lua_pushstring(L, lua_setlocal(thread, &ar, number));
  return 1;
}

static void replace(lua_State *L, const char *library, const char *name, lua_CFunction function) {
  lua_getglobal(L, library);
  lua_pushfstring(L, "%s.%s", library, name);
  lua_pushcclosure(L, function, 1);
  lua_setfield(L, -2, name);
  lua_pop(L, 1);
}

void ql_install_libraries(lua_State *L) {
  const luaL_Reg base[] = {{"load", text_load}, {"loadfile", text_loadfile}, {"dofile", text_dofile}, {NULL, NULL}};
  const luaL_Reg debug[] = {{"setmetatable", debug_setmetatable},
                            {"setupvalue", debug_setupvalue},
                            {"setlocal", debug_setlocal},
                            {NULL, NULL}};
  ql_pushglobals(L);
  luaL_setfuncs(L, base, 0);
  lua_getfield(L, -1, "debug");
  luaL_setfuncs(L, debug, 0);
  lua_getfield(L, -2, "package");
  lua_getfield(L, -1, "searchers");
  lua_pushvalue(L, -2);
  lua_pushcclosure(L, text_searcher, 1);
  lua_rawseti(L, -2, 2);
  lua_pop(L, 4);
  replace(L, "debug", "getregistry", refused);
  replace(L, "package", "loadlib", refused);
}

/* The sandbox */

enum { opens, reads, writes_default, removes, renames };

static int fails(lua_State *L) {
  lua_pushnil(L);
  lua_insert(L, -2);
  lua_pushinteger(L, EACCES);
  return 3;
}

/* Upvalues: Lua's function and what it does with the path that is its first argument. */
static int gated(lua_State *L) {
  int kind = (int)lua_tointeger(L, lua_upvalueindex(2));
  int arguments = lua_gettop(L);
  const char *path = kind == opens || kind >= removes ? luaL_checkstring(L, 1) : NULL;
  if (!path && lua_isstring(L, 1)) path = lua_tostring(L, 1); // a file, or nothing, otherwise
  int use = kind >= removes ? QL_ENTERS : kind == writes_default ? QL_WRITES : QL_READS;
  if (kind == opens && strpbrk(luaL_optstring(L, 2, "r"), "wa+") != NULL) use = QL_WRITES;
  int allowed = is_allowed(L, path, use) && (kind != renames || is_allowed(L, luaL_checkstring(L, 2), QL_ENTERS));
  if (!allowed) return kind == reads || kind == writes_default ? lua_error(L) : fails(L);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, arguments, LUA_MULTRET);
  return lua_gettop(L);
}

static void set_text(lua_State *L, const char *key, const char *text) {
  lua_pushstring(L, text);
  lua_setfield(L, -2, key);
}

static void set_number(lua_State *L, const char *key, int number) {
  lua_pushinteger(L, number);
  lua_setfield(L, -2, key);
}

static void set_flag(lua_State *L, const char *key, int flag) {
  lua_pushboolean(L, flag);
  lua_setfield(L, -2, key);
}

static int forbidden(lua_State *L) {
  return luaL_error(L, "%s: a sandbox does not have it", lua_tostring(L, lua_upvalueindex(1)));
}

/* debug.getinfo without the functions themselves: Lua's own, from before, must not be had from the stack. */
static int plain_getinfo(lua_State *L) {
  lua_State *thread = lua_isthread(L, 1) ? lua_tothread(L, 1) : L;
  int first = lua_isthread(L, 1) ? 2 : 1;
  const char *what = luaL_optstring(L, first + 1, "Slnut");
  luaL_argcheck(L, what[strspn(what, "Slnut")] == 0, first + 1, "only S, l, n, u and t in a sandbox");
  lua_Debug ar;
  if (lua_isfunction(L, first)) {
    what = lua_pushfstring(L, ">%s", what);
    lua_pushvalue(L, first);
    lua_xmove(L, thread, 1);
  } else if (!lua_getstack(thread, (int)luaL_checkinteger(L, first), &ar)) {
    return 0;
  }
  if (!lua_getinfo(thread, what, &ar)) return luaL_argerror(L, first + 1, "invalid option");
  lua_newtable(L);
  if (strchr(what, 'S')) {
    set_text(L, "source", ar.source), set_text(L, "short_src", ar.short_src), set_text(L, "what", ar.what);
    set_number(L, "linedefined", ar.linedefined), set_number(L, "lastlinedefined", ar.lastlinedefined);
  }
  if (strchr(what, 'n')) set_text(L, "name", ar.name), set_text(L, "namewhat", ar.namewhat);
  if (strchr(what, 'l')) set_number(L, "currentline", ar.currentline);
  if (strchr(what, 'u')) {
    set_number(L, "nups", ar.nups), set_number(L, "nparams", ar.nparams);
    set_flag(L, "isvararg", ar.isvararg);
  }
  if (strchr(what, 't')) set_flag(L, "istailcall", ar.istailcall);
  return 1;
}

/* A finalizer runs where no hook counts or stops it. */
static int plain_setmetatable(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  luaL_argexpected(L, lua_isnil(L, 2) || lua_istable(L, 2), 2, "nil or table");
  if (lua_istable(L, 2)) {
    lua_pushliteral(L, "__gc");
    if (lua_rawget(L, 2) != LUA_TNIL) return luaL_error(L, "a sandbox runs no finalizers (__gc)");
    lua_pop(L, 1);
  }
  if (luaL_getmetafield(L, 1, "__metatable") != LUA_TNIL) return luaL_error(L, "cannot change a protected metatable");
  lua_settop(L, 2);
  lua_setmetatable(L, 1);
  return 1;
}

static void gate(lua_State *L, const char *library, const char *name, int kind) {
  lua_getglobal(L, library);
  lua_getfield(L, -1, name);
  lua_pushinteger(L, kind);
  lua_pushcclosure(L, gated, 2);
  lua_setfield(L, -2, name);
  lua_pop(L, 1);
}

/* Keeps the named fields of a library and drops every other. */
static void keep(lua_State *L, const char *library, const char *const *names) {
  lua_getglobal(L, library);
  lua_newtable(L);
  for (; *names; names++) {
    lua_getfield(L, -2, *names);
    lua_setfield(L, -2, *names);
  }
  lua_pushvalue(L, -1);
  lua_setglobal(L, library);
  lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  lua_pushvalue(L, -2);
  lua_setfield(L, -2, library);
  lua_pop(L, 3);
}

/* Modules are files in Lua that may be read; whether others exist is not told. Its arguments: package, loadfile. */
static const char searcher[] =
    "local package, loadfile = ...\n"
    "package.searchers = { package.searchers[1], function(name)\n"
    "  local tried = ''\n"
    "  for template in package.path:gmatch '[^;]+' do\n"
    "    local path = template:gsub('%?', (name:gsub('%.', '/'):gsub('%%', '%%%%')))\n"
    "    local file = io.open(path)\n"
    "    if file then\n"
    "      file:close()\n"
    "      local chunk, why = loadfile(path)\n"
    "      if chunk then return chunk, path end\n"
    "      error(\"error loading module '\" .. name .. \"' from file '\" .. path .. \"':\\n\\t\" .. why, 0)\n"
    "    end\n"
    "    tried = tried .. (tried == '' and '' or '\\n\\t') .. \"no file '\" .. path .. \"'\"\n"
    "  end\n"
    "  return tried\n"
    "end }\n"
    "package.searchpath, package.cpath, package.loadlib = nil, nil, nil\n";

static int install_searcher(lua_State *L) {
  if (luaL_loadbufferx(L, searcher, sizeof searcher - 1, "=sandbox", "t") != LUA_OK) return lua_error(L);
  lua_getglobal(L, "package");
  lua_getglobal(L, "loadfile");
  lua_call(L, 2, 0);
  return 0;
}

void ql_install_sandbox(lua_State *L, int (*allows)(void *context, const char *path, int use)) {
  static const char *const io[] = {"open", "lines", "input", "output", "flush", "read", "write", "type", "close",
                                   "stdin", "stdout", "stderr", NULL};
  static const char *const os[] = {"time", "date", "clock", "difftime", "remove", "rename", NULL};
  static const char *const debug[] = {"traceback", NULL};
  ql_machine_of(L)->gate = allows;
  keep(L, "io", io), keep(L, "os", os), keep(L, "debug", debug);
  gate(L, "io", "open", opens), gate(L, "io", "lines", reads), gate(L, "io", "input", reads);
  gate(L, "io", "output", writes_default), gate(L, "os", "remove", removes), gate(L, "os", "rename", renames);
  static const char *const gone[][2] = {{"io", "popen"}, {"io", "tmpfile"}, {"os", "execute"}, {"os", "getenv"},
                                        {"os", "exit"}, {"os", "tmpname"}, {"os", "setlocale"}};
  for (size_t i = 0; i < sizeof gone / sizeof *gone; i++) replace(L, gone[i][0], gone[i][1], forbidden);
  lua_pushcfunction(L, install_searcher);
  lua_call(L, 0, 0);
  ql_pushglobals(L);
  lua_pushcfunction(L, plain_setmetatable);
  lua_setfield(L, -2, "setmetatable");
  lua_getfield(L, -1, "debug");
  lua_pushcfunction(L, plain_getinfo);
  lua_setfield(L, -2, "getinfo");
  lua_getfield(L, -2, "string");
  lua_pushnil(L);
  lua_setfield(L, -2, "dump");
  luaL_getmetatable(L, LUA_FILEHANDLE);
  lua_pushliteral(L, LUA_FILEHANDLE);
  lua_setfield(L, -2, "__metatable");
  lua_pop(L, 4);
}
