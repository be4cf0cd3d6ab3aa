/* Inside common/text: the named chat templates as data. */
#ifndef KF_TEXT_CHAT_TEMPLATES_H
#define KF_TEXT_CHAT_TEMPLATES_H

#include <stdbool.h>

#include "common/base/mem.h"

/* In the strings below: a control token by its spelling, the message's text, the tokenizer's BOS and EOS. */
#define TOKEN(s) "\1" s "\2"
#define BODY "\3"
#define BOS "\4"
#define EOS "\5"

typedef struct {
	const char *name;
	const char *start;         /* before everything */
	const char *no_system;     /* where the conversation does not begin with a system message */
	const char *system;        /* a system message; NULL: it has no turn of its own */
	const char *folded;        /* instead: a first system message, written where the first user message's text begins; NULL: refused */
	const char *user, *assistant;
	bool alternate;            /* user and assistant take turns, the user first (after the system message) */
	/* What the normalised text of the family's Jinja template has and has not: see normalise in chat_recognise.c. */
	const char *has[4], *lacks[6];
	bool line_ends;            /* it has line ends after what it writes, outside tags; others have no text there */
	int longest;               /* bytes of it, at most; 0: any */
} kf_chat_template;

/* In the order in which they are recognised; a NULL name ends them. */
extern const kf_chat_template kf_chat_templates[];

/* Append the template as Jinja text of ours (chat_jinja.c). */
void kf_chat_template_jinja(const kf_chat_template *t, kf_buf *out);

#endif
