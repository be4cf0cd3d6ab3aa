/* Tasks: what a model is asked, and how its answers are judged; and the files they come in.
 *
 * Four kinds:
 *   choice      which of several texts the model finds likeliest after a prompt
 *   match       text is generated until a stop string, and must equal an answer once both are normalised
 *   code        a program is generated and must pass a test (HumanEval)
 *   last-word   how likely the last word of a text is, and whether each of its tokens is the model's first choice (LAMBADA)
 *
 * Three forms of files, told apart by what they hold; gzipped ones are unpacked:
 *   our own     JSON Lines: {"task": NAME, "kind": ...} with options, then an object an item; docs/eval.md has the fields
 *   HumanEval   JSON Lines with task_id, prompt, entry_point and test
 *   BIG-bench   one JSON object with "examples"
 */
#ifndef KF_EVAL_TASK_H
#define KF_EVAL_TASK_H

#include "common/base/mem.h"

typedef enum { KF_TASK_CHOICE, KF_TASK_MATCH, KF_TASK_CODE, KF_TASK_WORD, KF_TASK_KINDS } kf_task_kind;
const char *kf_task_kind_name(kf_task_kind k);      /* "choice", "match", "code", "last-word" */

/* Both the answer and what was generated, before they are compared:
 *   space    white space at both ends goes
 *   text     letters become lower case, punctuation goes, white space between words becomes one space
 *   number   the number after the last "####", else the last number: without currency signs, thousands' commas, trailing
 *            zeros of a fraction and a final full stop; where there is no number nothing matches */
typedef enum { KF_NORMALIZE_SPACE, KF_NORMALIZE_TEXT, KF_NORMALIZE_NUMBER } kf_normalize;

typedef struct {
	int line;                  /* of the file; of BIG-bench the example's number */
	const char *id;            /* or "" */
	const char *prompt;
	const char **option;       /* choice: what may follow; match: answers that are accepted; last-word: the word */
	double *score;             /* choice: what each is worth, in [0, 1] or as the file has it */
	int n_options, best;       /* best: the (first) option that is worth most */
	const char *solution;      /* what a solved example shows after its prompt; NULL: option[best] */
	const char *test, *entry;  /* code: Python that defines check(f); the name of the function */
} kf_task_item;

typedef struct {
	const char *name, *file;
	const char *unit;          /* what an item's line counts: "line", "example" */
	int line;                  /* where the task begins; of BIG-bench 0 */
	kf_task_kind kind;
	const char *prefix;        /* before everything */
	const char *delimiter;     /* between a prompt and its answer */
	const char *separator;     /* after a solved example */
	const char **stop;         /* generated text ends before any of these */
	int n_stop, max_tokens;
	kf_normalize normalize;
	kf_task_item *item;        /* (n) */
	int n, cap;
} kf_eval_task;

typedef struct {
	kf_eval_task *task;             /* (n) */
	int n, cap;
	kf_arena arena;
} kf_tasks;

void kf_tasks_init(kf_tasks *t);
void kf_tasks_release(kf_tasks *t);

/* Add the tasks of a file. Errors name the file and the line: KF_EDATA for what is malformed, and for an answer that is not
 * among the choices, and for a second task of the same name. */
kf_status kf_tasks_read(const char *path, kf_tasks *t, kf_err *err) KF_MUST_CHECK;

/* The whole prompt of item i, with the first `shots` items as solved examples before it; appended to out. */
void kf_task_prompt(const kf_eval_task *t, int i, int shots, kf_buf *out);

/* Append text (n bytes) as `how` has it; false: it has no number. */
bool kf_task_normalize(kf_normalize how, const char *text, size_t n, kf_buf *out);
/* Whether what was generated (n bytes) equals an answer. KF_ENOMEM is the only error. */
kf_status kf_task_matches(const kf_eval_task *t, const kf_task_item *item, const char *text, size_t n, bool *out, kf_err *err) KF_MUST_CHECK;

/* Append what a model generated as text: bytes that are not UTF-8 become U+FFFD, one for every byte. */
void kf_task_text(const uint8_t *bytes, size_t n, kf_buf *out);

/* The program that tells whether a completion solves a code item; whole: what was generated is a reply with the
 * whole function in it, between ``` where there are any, not the rest of the prompt. */
void kf_task_program(const kf_task_item *item, const char *text, size_t n, bool reply, kf_buf *out);

#endif
