// The record of an interpreter: its memory, its running thread, its interrupts and its limits.
#include "machine.h"
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Memory */

enum { stride = 1 << 20 }; // bytes of growth between two questions
static char library_prefix[4096];

void ql_set_library_prefix(const char *prefix) { strncpy(library_prefix, prefix, sizeof library_prefix - 1); }

static int is_of_library(const lua_Debug *ar) {
  size_t prefix = strlen(library_prefix);
  return prefix > 0 && strncmp(ar->source, library_prefix, prefix) == 0;
}

/* The innermost Lua function outside the library, or the innermost one. Allocates nothing. */
static int find_position(lua_State *L, int level, lua_Debug *ar) {
  lua_Debug first;
  int found = 0;
  for (; lua_getstack(L, level, ar); level++) {
    lua_getinfo(L, "Sl", ar);
    if (ar->currentline <= 0) continue;
    if (!is_of_library(ar)) return 1;
    if (!found) first = *ar;
    found = 1;
  }
  if (found) *ar = first;
  return found;
}

void ql_push_position(lua_State *L, int level) {
  lua_Debug ar;
  if (find_position(L, level, &ar)) lua_pushfstring(L, "%s:%d: ", ar.short_src, ar.currentline);
  else lua_pushliteral(L, "");
}

static void note_position(ql_machine *machine) {
  lua_Debug ar;
  lua_State *L = machine->running ? machine->running : machine->main;
  machine->position[0] = 0;
  if (find_position(L, 0, &ar))
    snprintf(machine->position, sizeof machine->position, "%s:%d: ", ar.short_src, ar.currentline);
}

/* A stride more than is needed, always: a program that grows up to its limit would otherwise collect everything, and
   measure the process, for each of its last small allocations. */
static int admits(ql_machine *machine, long long growth) {
  if (!machine->admit(machine->context, growth + stride)) {
    machine->wanted = growth;
    return 0;
  }
  machine->admitted = machine->held + growth + stride;
  return 1;
}

/* Lua collects everything and asks again where NULL is returned, then raises an error, but for its table of strings:
   that stays as it is, and the next new string asks for the same growth, with two collections. After some rounds the
   string is refused in its place. */
static int is_refused(ql_machine *machine, void *block, size_t after, long long growth) {
  enum { rounds = 4 };
  if (machine->pending_refusals > 0) {
    machine->pending_refusals--;
    return 1;
  }
  if (machine->held + growth <= machine->admitted || admits(machine, growth)) return 0;
  int is_same = block && block == machine->refused && after == machine->refused_size;
  machine->refusals = is_same ? machine->refusals + 1 : 1;
  machine->refused = block;
  machine->refused_size = after;
  if (machine->refusals < 2 * rounds) return 1;
  machine->refusals = 0;
  machine->pending_refusals = 2;
  return 1;
}

/* Under Swift code memory is given first and missed afterwards: the trampoline raises when the native function
   returns. */
static void *allocate(void *record, void *block, size_t before, size_t after) {
  ql_machine *machine = record;
  long long growth = (long long)after - (long long)(block ? before : 0);
  if (after == 0) {
    free(block);
  } else {
    if (growth > 0 && !machine->is_over && !machine->is_short) {
      if (machine->native) {
        machine->is_over = machine->held + growth > machine->admitted && !admits(machine, growth);
      } else if (is_refused(machine, block, after, growth)) {
        note_position(machine);
        return NULL;
      }
    }
    void *moved = realloc(block, after);
    if (moved == NULL) {
      if (!machine->native) return NULL;
      static const char text[] = "qlora-run: not enough memory for Lua\n";
      if (write(2, text, sizeof text - 1) < 0) _exit(1);
      _exit(1);
    }
    block = moved;
  }
  machine->held += growth;
  if (machine->admit && machine->admitted > machine->held + stride) machine->admitted = machine->held + stride;
  return after == 0 ? NULL : block;
}

void ql_set_admission(lua_State *L, int (*admit)(void *context, long long growth)) {
  ql_machine *machine = ql_machine_of(L);
  machine->admit = admit;
  machine->admitted = machine->held;
}

void ql_trim_heap(void) { malloc_trim(0); }
long long ql_wanted(lua_State *L) { return ql_machine_of(L)->wanted; }
long long ql_held(lua_State *L) { return ql_machine_of(L)->held; }
const char *ql_memory_position(lua_State *L) { return ql_machine_of(L)->position; }

int ql_is_short(lua_State *L) {
  ql_machine *machine = ql_machine_of(L);
  if (machine->is_short || !machine->is_over) return machine->is_short;
  lua_gc(L, LUA_GCCOLLECT);
  machine->is_over = 0;
  machine->admitted = machine->held;
  machine->is_short = !machine->admit(machine->context, stride);
  return machine->is_short;
}

int ql_reserve(lua_State *L, long long bytes) {
  ql_machine *machine = ql_machine_of(L);
  if (!machine->admit || machine->admit(machine->context, bytes)) return 1;
  lua_gc(L, LUA_GCCOLLECT);
  if (machine->admit(machine->context, bytes)) return 1;
  machine->wanted = bytes;
  machine->is_short = 1;
  return 0;
}

int ql_take_shortage(lua_State *L) {
  int is_short = ql_is_short(L);
  ql_machine_of(L)->is_short = 0;
  return is_short;
}

/* Birth and death */

static ql_machine *volatile active; // whom an interrupt stops

/* Interrupts: all that came, those that were asked about, those that were raised as an error. */
static volatile sig_atomic_t interrupts, taken, raised, polls;

lua_State *ql_new_state(void) {
  lua_State *L = luaL_newstate();
  ql_machine *machine = L ? calloc(1, sizeof *machine) : NULL;
  if (machine == NULL) return NULL;
  machine->main = L;
  machine->native = 1;
  machine->admitted = LLONG_MAX;
  machine->held = (long long)lua_gc(L, LUA_GCCOUNT) * 1024 + lua_gc(L, LUA_GCCOUNTB);
  *(ql_machine **)lua_getextraspace(L) = machine;
  lua_setallocf(L, allocate, machine);
  active = machine;
  polls = 0; // what interrupts meant to the state before does not concern this one
  taken = raised = interrupts;
  luaL_openlibs(L);
  return L;
}

void ql_close(lua_State *L) {
  ql_machine *machine = ql_machine_of(L);
  if (active == machine) active = NULL;
  lua_close(L);
  free(machine);
}

void *ql_context(lua_State *L) { return ql_machine_of(L)->context; }
void ql_set_context(lua_State *L, void *context) { ql_machine_of(L)->context = context; }

/* Interrupts and instructions */

static void hook(lua_State *L, lua_Debug *ar);

/* The hook of a thread that no interrupt stops. */
static void rest(lua_State *L) {
  int counts = ql_machine_of(L)->instruction_limit != 0;
  lua_sethook(L, counts ? hook : NULL, counts ? LUA_MASKCOUNT : 0, counts ? instruction_stride : 0);
}

/* An interruption is a table of its own kind, { message = "recipe.lua:3: interrupted", exit_code = 130 }: no text that
   a program or a file brings along is one. It reads as its message. */
static const char interruption[] = "qlora.interruption";

static int interruption_text(lua_State *L) {
  lua_getfield(L, 1, "message");
  return 1;
}

static int interruption_concat(lua_State *L) {
  luaL_tolstring(L, 1, NULL);
  luaL_tolstring(L, 2, NULL);
  lua_concat(L, 2);
  return 1;
}

static void push_interruption(lua_State *L, int level) {
  static const luaL_Reg methods[] = {
      {"__tostring", interruption_text}, {"__concat", interruption_concat}, {NULL, NULL}};
  luaL_checkstack(L, 8, NULL);
  lua_createtable(L, 0, 2);
  // Where no program runs, a place in the library tells nothing.
  lua_Debug ar;
  if (find_position(L, level, &ar) && !is_of_library(&ar))
    lua_pushfstring(L, "%s:%d: interrupted", ar.short_src, ar.currentline);
  else lua_pushliteral(L, "interrupted");
  lua_setfield(L, -2, "message");
  lua_pushinteger(L, 128 + SIGINT);
  lua_setfield(L, -2, "exit_code");
  if (luaL_newmetatable(L, interruption)) luaL_setfuncs(L, methods, 0);
  lua_setmetatable(L, -2);
}

int ql_is_interruption(lua_State *L, int index) {
  if (!lua_checkstack(L, 3) || lua_type(L, index) != LUA_TTABLE || !lua_getmetatable(L, index)) return 0;
  luaL_getmetatable(L, interruption);
  int is_one = lua_rawequal(L, -1, -2);
  lua_pop(L, 2);
  return is_one;
}

static int is_pending(void) { return interrupts - taken > (polls ? 1 : 0); }

int ql_is_stopping(void) { return is_pending() && interrupts != raised; }

int ql_stop(lua_State *L, int level) {
  raised = interrupts;
  // A second interrupt also stops code that catches the error of the first and goes on: the hook stays.
  if (interrupts - taken < 2) rest(L);
  ql_machine_of(L)->stops++;
  push_interruption(L, level);
  return lua_error(L);
}

static void check_limit(lua_State *L) {
  ql_machine *machine = ql_machine_of(L);
  if (!machine->instruction_limit || machine->instructions <= machine->instruction_limit) return;
  lua_sethook(L, hook, LUA_MASKCOUNT, 1); // code that catches the error does not go on
  ql_push_position(L, 0);
  lua_pushfstring(L, "the recipe took more than %I instructions", (LUAI_UACINT)machine->instruction_limit);
  lua_concat(L, 2);
  snprintf(machine->limit_text, sizeof machine->limit_text, "%s", lua_tostring(L, -1));
  machine->stops++;
  lua_error(L);
}

static int is_to_stop(void) { return is_pending() && (interrupts != raised || interrupts - taken > 1); }

static void hook(lua_State *L, lua_Debug *ar) {
  ql_machine *machine = ql_machine_of(L);
  if (machine->native) return; // it stays armed, and the trampoline looks
  if (ar->event == LUA_HOOKCOUNT) {
    machine->instructions += lua_gethookcount(L);
    check_limit(L);
  }
  if (is_to_stop()) ql_stop(L, 0);
  else if (lua_gethookmask(L) != LUA_MASKCOUNT) rest(L);
}

void ql_look(lua_State *L) {
  ql_machine *machine = ql_machine_of(L);
  machine->instructions += (long long)machine->steps;
  machine->steps = 0;
  if (machine->native) return;
  check_limit(L);
  if (is_to_stop()) ql_stop(L, 1);
}

void ql_limit_instructions(lua_State *L, long long count) {
  ql_machine_of(L)->instruction_limit = count;
  rest(L);
}

void ql_set_polling(int polling) { polls = polling; }

int ql_interrupt(void) {
  interrupts = interrupts + 1;
  int pending = interrupts - taken;
  if (polls && pending < 2) return pending;
  ql_machine *machine = active;
  if (machine) {
    lua_State *running = machine->running; // read once: a coroutine may end meanwhile on another thread
    lua_sethook(running ? running : machine->main, hook,
                LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT, 1);
  }
  return pending;
}

int ql_take_interrupt(void) {
  if (interrupts == taken) return 0;
  taken = interrupts;
  return 1;
}

void ql_forget_interrupts(void) {
  taken = raised = interrupts;
  if (!active) return;
  rest(active->main);
  if (active->running) rest(active->running);
}
