// Lua's pattern functions (reference manual 6.4.1) with their steps counted: an interrupt or a limit on instructions ends
// a search that would take for ever. Lua's own run without a look at either. Results and errors are Lua's own.
#include "machine.h"
#include <ctype.h>
#include <string.h>

enum { most_captures = 32, most_depth = 200, unfinished = -1, position = -2, escape = '%' };

typedef struct {
  lua_State *L;
  const char *text, *end;
  const char *pattern_end;
  int depth, level;
  struct {
    const char *start;
    ptrdiff_t length; // or `unfinished`, `position`
  } captures[most_captures];
} matcher;

static unsigned char byte(char c) { return (unsigned char)c; }

/* One item of a pattern */

/* Behind the class that begins at p. */
static const char *class_end(matcher *m, const char *p) {
  char first = *p++;
  if (first == escape) {
    if (p == m->pattern_end) luaL_error(m->L, "malformed pattern (ends with '%%')");
    return p + 1;
  }
  if (first != '[') return p;
  if (*p == '^') p++;
  do { // a ] in front is a member
    if (p == m->pattern_end) luaL_error(m->L, "malformed pattern (missing ']')");
    if (*p++ == escape && p < m->pattern_end) p++;
  } while (*p != ']');
  return p + 1;
}

static int in_named_class(int c, int name) {
  int is;
  switch (tolower(name)) {
  case 'a': is = isalpha(c); break;
  case 'c': is = iscntrl(c); break;
  case 'd': is = isdigit(c); break;
  case 'g': is = isgraph(c); break;
  case 'l': is = islower(c); break;
  case 'p': is = ispunct(c); break;
  case 's': is = isspace(c); break;
  case 'u': is = isupper(c); break;
  case 'w': is = isalnum(c); break;
  case 'x': is = isxdigit(c); break;
  case 'z': is = c == 0; break;
  default: return name == c;
  }
  return isupper(name) ? !is : is != 0;
}

/* A set: p at its [, last at its ]. */
static int in_set(int c, const char *p, const char *last) {
  int found = 1;
  if (p[1] == '^') found = 0, p++;
  while (++p < last) {
    if (*p == escape) {
      if (in_named_class(c, byte(*++p))) return found;
    } else if (p[1] == '-' && p + 2 < last) {
      if (byte(p[0]) <= c && c <= byte(p[2])) return found;
      p += 2;
    } else if (byte(*p) == c) {
      return found;
    }
  }
  return !found;
}

static int matches_one(matcher *m, const char *s, const char *p, const char *behind) {
  if (s >= m->end) return 0;
  switch (*p) {
  case '.': return 1;
  case escape: return in_named_class(byte(*s), byte(p[1]));
  case '[': return in_set(byte(*s), p, behind - 1);
  default: return *p == *s;
  }
}

/* Patterns */

static const char *match(matcher *m, const char *s, const char *p);

static int closed_capture(matcher *m, int digit) {
  int index = digit - '1';
  if (index < 0 || index >= m->level || m->captures[index].length == unfinished)
    luaL_error(m->L, "invalid capture index %%%d", index + 1);
  return index;
}

static const char *match_balanced(matcher *m, const char *s, const char *p) {
  if (p >= m->pattern_end - 1) luaL_error(m->L, "malformed pattern (missing arguments to '%%b')");
  if (*s != *p) return NULL;
  int open = 1;
  while (++s < m->end) {
    ql_count(m->L, 1);
    if (*s == p[1]) {
      if (--open == 0) return s + 1;
    } else if (*s == p[0]) {
      open++;
    }
  }
  return NULL;
}

static const char *match_longest(matcher *m, const char *s, const char *p, const char *behind) {
  ptrdiff_t count = 0;
  while (matches_one(m, s + count, p, behind)) {
    ql_count(m->L, 1);
    count++;
  }
  for (; count >= 0; count--) {
    const char *rest = match(m, s + count, behind + 1);
    if (rest) return rest;
  }
  return NULL;
}

static const char *match_shortest(matcher *m, const char *s, const char *p, const char *behind) {
  for (;; s++) {
    const char *rest = match(m, s, behind + 1);
    if (rest) return rest;
    if (!matches_one(m, s, p, behind)) return NULL;
  }
}

static const char *open_capture(matcher *m, const char *s, const char *p, ptrdiff_t kind) {
  if (m->level >= most_captures) luaL_error(m->L, "too many captures");
  m->captures[m->level].start = s;
  m->captures[m->level].length = kind;
  m->level++;
  const char *rest = match(m, s, p);
  if (!rest) m->level--;
  return rest;
}

static const char *close_capture(matcher *m, const char *s, const char *p) {
  int index = m->level - 1;
  while (index >= 0 && m->captures[index].length != unfinished) index--;
  if (index < 0) luaL_error(m->L, "invalid pattern capture");
  m->captures[index].length = s - m->captures[index].start;
  const char *rest = match(m, s, p);
  if (!rest) m->captures[index].length = unfinished;
  return rest;
}

static const char *match_again(matcher *m, const char *s, int digit) {
  int index = closed_capture(m, digit);
  size_t length = (size_t)m->captures[index].length;
  if ((size_t)(m->end - s) < length || memcmp(m->captures[index].start, s, length) != 0) return NULL;
  ql_count(m->L, length / 16);
  return s + length;
}

/* Whether s lies between a byte outside the set and one inside. */
static int at_frontier(matcher *m, const char *s, const char *set, const char *behind) {
  int before = s == m->text ? 0 : byte(s[-1]);
  return !in_set(before, set, behind - 1) && in_set(byte(*s), set, behind - 1);
}

/* Behind what the pattern from p on matches at s; NULL where it does not. */
static const char *match_items(matcher *m, const char *s, const char *p) {
  while (p != m->pattern_end) {
    ql_count(m->L, 1);
    if (*p == '(') return p[1] == ')' ? open_capture(m, s, p + 2, position) : open_capture(m, s, p + 1, unfinished);
    if (*p == ')') return close_capture(m, s, p + 1);
    if (*p == '$' && p + 1 == m->pattern_end) return s == m->end ? s : NULL;
    if (*p == escape && p[1] == 'b') {
      if (!(s = match_balanced(m, s, p + 2))) return NULL;
      p += 4;
      continue;
    }
    if (*p == escape && p[1] == 'f') {
      p += 2;
      if (*p != '[') luaL_error(m->L, "missing '[' after '%%f' in pattern");
      const char *behind = class_end(m, p);
      if (!at_frontier(m, s, p, behind)) return NULL;
      p = behind;
      continue;
    }
    if (*p == escape && isdigit(byte(p[1]))) {
      if (!(s = match_again(m, s, byte(p[1])))) return NULL;
      p += 2;
      continue;
    }
    const char *behind = class_end(m, p);
    if (*behind == '-') return match_shortest(m, s, p, behind);
    if (*behind == '*') return match_longest(m, s, p, behind);
    int is_one = matches_one(m, s, p, behind);
    if (*behind == '+') return is_one ? match_longest(m, s + 1, p, behind) : NULL;
    if (*behind == '?') {
      const char *rest = is_one ? match(m, s + 1, behind + 1) : NULL;
      if (rest) return rest;
      p = behind + 1;
      continue;
    }
    if (!is_one) return NULL;
    s++;
    p = behind;
  }
  return s;
}

static const char *match(matcher *m, const char *s, const char *p) {
  if (m->depth-- == 0) luaL_error(m->L, "pattern too complex");
  const char *rest = match_items(m, s, p);
  m->depth++;
  return rest;
}

static void prepare(matcher *m, lua_State *L, const char *text, size_t size, const char *pattern, size_t length) {
  m->L = L;
  m->text = text, m->end = text + size;
  m->pattern_end = pattern + length;
}

static const char *match_at(matcher *m, const char *s, const char *p) {
  m->level = 0;
  m->depth = most_depth;
  return match(m, s, p);
}

/* Captures as values: the whole match where the pattern has none. */

static void push_capture(matcher *m, int index, const char *s, const char *rest) {
  if (index >= m->level) {
    if (index != 0) luaL_error(m->L, "invalid capture index %%%d", index + 1);
    lua_pushlstring(m->L, s, (size_t)(rest - s));
    return;
  }
  ptrdiff_t length = m->captures[index].length;
  if (length == unfinished) luaL_error(m->L, "unfinished capture");
  if (length == position) lua_pushinteger(m->L, m->captures[index].start - m->text + 1);
  else lua_pushlstring(m->L, m->captures[index].start, (size_t)length);
}

static int push_captures(matcher *m, const char *s, const char *rest) {
  int count = m->level == 0 && s ? 1 : m->level;
  luaL_checkstack(m->L, count, "too many captures");
  for (int i = 0; i < count; i++) push_capture(m, i, s, rest);
  return count;
}

/* find and match */

/* A start position as an offset; negative ones count from the end. */
static size_t offset_of(lua_Integer start, size_t size) {
  if (start > 0) return (size_t)start - 1;
  if (start == 0 || start < -(lua_Integer)size) return 0;
  return size + (size_t)start;
}

static int has_specials(const char *pattern, size_t length) {
  for (size_t i = 0; i < length; i++)
    if (pattern[i] && strchr("^$*+?.([%-", pattern[i])) return 1;
  return 0;
}

static const char *find_text(lua_State *L, const char *s, size_t size, const char *wanted, size_t length) {
  if (length == 0) return s;
  if (length > size) return NULL;
  const char *last = s + (size - length);
  while (s <= last && (s = memchr(s, wanted[0], (size_t)(last - s) + 1))) {
    ql_count(L, 1 + length / 16);
    if (memcmp(s + 1, wanted + 1, length - 1) == 0) return s;
    s++;
  }
  return NULL;
}

static int find_or_match(lua_State *L, int finds) {
  size_t size, length;
  const char *text = luaL_checklstring(L, 1, &size), *pattern = luaL_checklstring(L, 2, &length);
  size_t start = offset_of(luaL_optinteger(L, 3, 1), size);
  if (start > size) return lua_pushnil(L), 1;
  if (finds && (lua_toboolean(L, 4) || !has_specials(pattern, length))) {
    const char *found = find_text(L, text + start, size - start, pattern, length);
    if (!found) return lua_pushnil(L), 1;
    lua_pushinteger(L, found - text + 1);
    lua_pushinteger(L, found - text + (lua_Integer)length);
    return 2;
  }
  matcher m;
  int is_anchored = *pattern == '^' && length > 0;
  if (is_anchored) pattern++, length--;
  prepare(&m, L, text, size, pattern, length);
  const char *s = text + start;
  do {
    const char *rest = match_at(&m, s, pattern);
    if (!rest) continue;
    if (!finds) return push_captures(&m, s, rest);
    lua_pushinteger(L, s - text + 1);
    lua_pushinteger(L, rest - text);
    return push_captures(&m, NULL, NULL) + 2;
  } while (s++ < m.end && !is_anchored);
  return lua_pushnil(L), 1;
}

static int string_find(lua_State *L) { return find_or_match(L, 1); }
static int string_match(lua_State *L) { return find_or_match(L, 0); }

/* gmatch: a closure over text, pattern and this. */

typedef struct {
  size_t next;        // offset where the search goes on
  ptrdiff_t last_end; // of the match before; an empty match there is none
} walk;

static int next_match(lua_State *L) {
  size_t size, length;
  const char *text = lua_tolstring(L, lua_upvalueindex(1), &size);
  const char *pattern = lua_tolstring(L, lua_upvalueindex(2), &length);
  walk *w = lua_touserdata(L, lua_upvalueindex(3));
  matcher m;
  prepare(&m, L, text, size, pattern, length);
  for (; w->next <= size; w->next++) {
    const char *rest = match_at(&m, text + w->next, pattern);
    if (!rest || rest - text == w->last_end) continue;
    const char *s = text + w->next;
    w->last_end = rest - text;
    w->next = (size_t)w->last_end;
    return push_captures(&m, s, rest);
  }
  return 0;
}

static int string_gmatch(lua_State *L) {
  size_t size;
  luaL_checklstring(L, 1, &size), luaL_checklstring(L, 2, NULL);
  size_t start = offset_of(luaL_optinteger(L, 3, 1), size);
  lua_settop(L, 2);
  walk *w = lua_newuserdatauv(L, sizeof *w, 0);
  *w = (walk){.next = start > size ? size + 1 : start, .last_end = -1};
  lua_pushcclosure(L, next_match, 3);
  return 1;
}

/* gsub */

static void add_text(matcher *m, luaL_Buffer *b, const char *s, const char *rest) {
  size_t length;
  const char *text = lua_tolstring(m->L, 3, &length), *end = text + length;
  for (; text < end; text++) {
    if (*text != escape) {
      luaL_addchar(b, *text);
      continue;
    }
    text++;
    if (*text == escape) {
      luaL_addchar(b, *text);
    } else if (*text == '0') {
      luaL_addlstring(b, s, (size_t)(rest - s));
    } else if (isdigit(byte(*text))) {
      push_capture(m, *text - '1', s, rest);
      luaL_tolstring(m->L, -1, NULL);
      lua_remove(m->L, -2);
      luaL_addvalue(b);
    } else {
      luaL_error(m->L, "invalid use of '%c' in replacement string", escape);
    }
  }
}

/* Whether the match was replaced; what a function or a table answers with false or nil stays. */
static int add_replacement(matcher *m, luaL_Buffer *b, const char *s, const char *rest, int kind) {
  lua_State *L = m->L;
  if (kind == LUA_TFUNCTION) {
    lua_pushvalue(L, 3);
    lua_call(L, push_captures(m, s, rest), 1);
  } else if (kind == LUA_TTABLE) {
    push_capture(m, 0, s, rest);
    lua_gettable(L, 3);
  } else {
    add_text(m, b, s, rest);
    return 1;
  }
  if (!lua_toboolean(L, -1)) {
    lua_pop(L, 1);
    luaL_addlstring(b, s, (size_t)(rest - s));
    return 0;
  }
  if (!lua_isstring(L, -1)) luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
  luaL_addvalue(b);
  return 1;
}

static int string_gsub(lua_State *L) {
  size_t size, length;
  const char *s = luaL_checklstring(L, 1, &size), *pattern = luaL_checklstring(L, 2, &length);
  const char *last_end = NULL;
  int kind = lua_type(L, 3);
  luaL_argexpected(L, kind == LUA_TNUMBER || kind == LUA_TSTRING || kind == LUA_TFUNCTION || kind == LUA_TTABLE, 3,
                   "string/function/table");
  lua_Integer most = luaL_optinteger(L, 4, (lua_Integer)size + 1), count = 0;
  int is_anchored = *pattern == '^' && length > 0, is_changed = 0;
  if (is_anchored) pattern++, length--;
  matcher m;
  prepare(&m, L, s, size, pattern, length);
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  while (count < most) {
    const char *rest = match_at(&m, s, pattern);
    if (rest && rest != last_end) {
      count++;
      is_changed |= add_replacement(&m, &b, s, rest, kind);
      s = last_end = rest;
    } else if (s < m.end) {
      luaL_addchar(&b, *s++);
    } else {
      break;
    }
    if (is_anchored) break;
  }
  if (is_changed) {
    luaL_addlstring(&b, s, (size_t)(m.end - s));
    luaL_pushresult(&b);
  } else {
    lua_pushvalue(L, 1);
  }
  lua_pushinteger(L, count);
  return 2;
}

void ql_install_patterns(lua_State *L) {
  const luaL_Reg functions[] = {{"find", string_find},
                                {"match", string_match},
                                {"gmatch", string_gmatch},
                                {"gsub", string_gsub},
                                {NULL, NULL}};
  lua_getglobal(L, "string");
  luaL_setfuncs(L, functions, 0);
  lua_pop(L, 1);
}
