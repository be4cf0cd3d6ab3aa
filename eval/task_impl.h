/* What the readers of task files share. */
#ifndef KF_EVAL_TASK_IMPL_H
#define KF_EVAL_TASK_IMPL_H

#include <jansson.h>

#include "eval/task.h"

/* Where something is, for messages: "FILE, line N"; at 0: the whole of the file. */
typedef struct { const char *file; const char *unit; int at; } kf_task_place;
kf_status kf_task_bad(kf_task_place p, kf_err *err, const char *fmt, ...) KF_PRINTF(3, 4);

/* A new task of defaults for its kind; KF_EINVAL where there is one of that name. Valid until the next is added. */
kf_status kf_tasks_add(kf_tasks *t, const char *name, kf_task_place p, kf_task_kind kind, kf_eval_task **out, kf_err *err) KF_MUST_CHECK;
kf_status kf_task_add_item(kf_tasks *t, kf_eval_task *task, const kf_task_item *item, kf_err *err) KF_MUST_CHECK;

bool kf_task_blank(const char *text);                                       /* nothing, or white space only */
char *kf_tasks_copy(kf_tasks *t, const char *text, kf_err *err);          /* into the arena; NULL on no memory */
/* A string of an object: NULL in *out where it is absent and may be; else an error. */
kf_status kf_task_string(kf_tasks *t, const json_t *o, const char *key, bool must, kf_task_place p, const char **out, kf_err *err) KF_MUST_CHECK;
/* An array of strings (or one string, where one will do). */
kf_status kf_task_strings(kf_tasks *t, const json_t *value, const char *key, kf_task_place p, const char ***out, int *n, kf_err *err) KF_MUST_CHECK;

/* That an item's answers leave something under a normalisation, and one has a number where that wants one. */
kf_status kf_task_check_answers(kf_normalize normalize, const kf_task_item *item, kf_task_place p, kf_err *err) KF_MUST_CHECK;

kf_status kf_task_read_bigbench(kf_tasks *t, const json_t *root, const char *file, const char *name, kf_err *err) KF_MUST_CHECK;
kf_status kf_task_read_humaneval(kf_tasks *t, kf_eval_task *task, const json_t *o, kf_task_place p, kf_err *err) KF_MUST_CHECK;

#endif
