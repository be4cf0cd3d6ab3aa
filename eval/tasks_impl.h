/* What the files of tasks.h share. */
#ifndef KF_EVAL_TASKS_IMPL_H
#define KF_EVAL_TASKS_IMPL_H

#include "eval/likelihood.h"
#include "eval/subject.h"
#include "eval/tasks.h"

/* The figures a task has, with room for their values. */
kf_status kf_task_metrics(const kf_tasks_opts *o, kf_task_result *r, kf_err *err) KF_MUST_CHECK;
/* What a model did with counted item i: e (n_options), the choices; the word; how many programs passed. */
void kf_task_count_choice(kf_task_result *r, int model, int i, const kf_ending *e, bool chat);
void kf_task_count_word(kf_task_result *r, int model, int i, const kf_ending *e);
void kf_task_count_code(kf_task_result *r, int model, int i, int samples, int passed);

static inline bool kf_task_generates(const kf_eval_task *t) { return t->kind == KF_TASK_MATCH || t->kind == KF_TASK_CODE; }
/* Tokens of an answer at most, by a model of this context. */
int kf_task_most(const kf_tasks_opts *o, const kf_eval_task *t, int context);

/* Scores that are kept. Add to what model s's depend on (scores.h) what it was asked and how; sandbox: what kept programs in. */
kf_status kf_task_of(const kf_tasks_opts *o, const kf_task_result *r, const kf_subject *s, const char *sandbox, json_t *of, kf_err *err) KF_MUST_CHECK;
/* Model's scores from a folder: false, and nothing that counts, where they are not there; and into it. */
bool kf_task_take(kf_task_result *r, int model, const char *dir, const json_t *of);
kf_status kf_task_keep(const kf_task_result *r, int model, const char *dir, const json_t *of, kf_err *err) KF_MUST_CHECK;

/* Figures, differences and their intervals, from the values. */
kf_status kf_task_figures(const kf_eval_opts *e, kf_task_result *r, kf_err *err) KF_MUST_CHECK;

#endif
