/* Whether what is evaluated was in the text that was trained on: n-grams of words that items and training text share.
 * A word is a run of letters, marks and digits of any script, in lower case; thirteen words in a row
 * that two texts share are seldom chance (Brown et al. 2020). Where a document was cut into pieces, each is looked at with the last words of the one
 * before it, and a message of a conversation ends its last word. */
#ifndef KF_EVAL_OVERLAP_H
#define KF_EVAL_OVERLAP_H

#include <jansson.h>

#include "eval/task.h"

#define KF_OVERLAP_NAMED 20

typedef struct {
	char *name;                /* a task's, or a domain's of the held-out text */
	int items, shared;         /* shared: with an n-gram of the training text */
	int brief;                 /* of fewer words than n: not compared */
	long named[KF_OVERLAP_NAMED]; /* the first that are shared: lines of the task's file, documents of the corpus */
} kf_overlap_row;

typedef struct {
	int n;                     /* words of an n-gram */
	uint64_t words;            /* of the training text */
	kf_overlap_row *row;       /* (n_tasks + n_domains): tasks first */
	int n_tasks, n_domains;
} kf_overlap;

/* training: corpora (kf-prepare). tasks, and a held-out corpus, may be NULL. An item's text is its prompt and its answer.
 * Result is to be released in any case. */
kf_status kf_overlap_find(const char *const *training, int n_training, const kf_tasks *tasks, const char *corpus, int n,
	kf_overlap *out, kf_err *err) KF_MUST_CHECK;
void kf_overlap_release(kf_overlap *o);

json_t *kf_overlap_json(const kf_overlap *o);    /* new; NULL on no memory */
void kf_overlap_table(const kf_overlap *o, kf_buf *out);
void kf_overlap_markdown(const kf_overlap *o, kf_buf *out);

#endif
