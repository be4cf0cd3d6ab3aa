/* A named template as Jinja text, for the folder of a model that was trained with it: transformers makes of a conversation with it what
 * chat.c does. Messages lose the white space at their ends, as they do in a corpus. Every tag takes the blanks around it away: they are there to be read. */
#include <assert.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/text/chat_templates.h"

static void put(kf_buf *out, const char *s) { kf_buf_put(out, s, strlen(s)); }

/* s (n) of chat_templates.h as an expression; body stands for the message's text. Control tokens are their spellings. */
static void put_expression(kf_buf *out, const char *s, size_t n, const char *body)
{
	bool quoted = false, any = false;

	for (const char *end = s + n; s < end; s++) {
		const char *name = *s == *BODY ? body : *s == *BOS ? "bos_token" : *s == *EOS ? "eos_token" : NULL;

		if (*s == 1 || *s == 2) continue;
		if (name) {
			put(out, quoted ? "' + " : any ? " + " : "");
			put(out, name);
			quoted = false;
		} else {
			if (!quoted) put(out, any ? " + '" : "'");
			quoted = true;
			if (*s == '\n') {
				put(out, "\\n");
			} else {
				if (*s == '\'' || *s == '\\') kf_buf_u8(out, '\\');
				kf_buf_u8(out, (uint8_t)*s);
			}
		}
		any = true;
	}
	if (quoted) kf_buf_u8(out, '\'');
}

static void put_write(kf_buf *out, const char *indent, const char *s, size_t n)
{
	kf_buf_printf(out, "%s{{- ", indent);
	put_expression(out, s, n, "text");
	put(out, " -}}\n");
}

static void put_turn(kf_buf *out, const char *tag, const char *role, const char *s)
{
	kf_buf_printf(out, "    {%%- %s message['role'] == '%s' -%%}\n", tag, role);
	put_write(out, "        ", s, strlen(s));
}

/* turns: the messages but a first system message; system: what becomes of that. */
static void put_folding(kf_buf *out, const char *folded)
{
	put(out, "{%- set system = '' -%}\n{%- set turns = messages -%}\n{%- if messages[0]['role'] == 'system' -%}\n    {%- set system = ");
	put_expression(out, folded, strlen(folded), "messages[0]['content'] | trim");
	put(out, " -%}\n    {%- set turns = messages[1:] -%}\n{%- endif -%}\n");
}

void kf_chat_template_jinja(const kf_chat_template *t, kf_buf *out)
{
	size_t prompt = (size_t)(strchr(t->assistant, *BODY) - t->assistant);

	assert(!(t->system && t->alternate) && (!t->folded || t->alternate));   /* places are told by the number of the turn */
	if (t->start) put_write(out, "", t->start, strlen(t->start));
	if (t->no_system) {
		put(out, "{%- if messages[0]['role'] != 'system' -%}\n");
		put_write(out, "    ", t->no_system, strlen(t->no_system));
		put(out, "{%- endif -%}\n");
	}
	if (t->folded) put_folding(out, t->folded);
	kf_buf_printf(out, "{%%- for message in %s -%%}\n", t->folded ? "turns" : "messages");
	if (t->alternate)
		put(out, "    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}\n"
			"        {{- raise_exception('User and assistant must take turns, the user first.') -}}\n    {%- endif -%}\n");
	kf_buf_printf(out, "    {%%- set text = %smessage['content'] | trim -%%}\n", t->folded ? "(system if loop.first else '') + " : "");
	if (t->system) put_turn(out, "if", "system", t->system);
	put_turn(out, t->system ? "elif" : "if", "user", t->user);
	put_turn(out, "elif", "assistant", t->assistant);
	kf_buf_printf(out, "    {%%- else -%%}\n        {{- raise_exception('The chat template %s has no place for a message of ' + message['role'] + '.') -}}\n"
		"    {%%- endif -%%}\n{%%- endfor -%%}\n", t->name);
	/* a space in front of the reply belongs to its first token */
	while (prompt > 0 && t->assistant[prompt - 1] == ' ') prompt--;
	if (!prompt) return;
	put(out, "{%- if add_generation_prompt -%}\n");
	put_write(out, "    ", t->assistant, prompt);
	put(out, "{%- endif -%}\n");
}
