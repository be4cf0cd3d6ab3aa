/* What the files of tasks.h share. */
#ifndef KF_EVAL_TASKS_IMPL_H
#define KF_EVAL_TASKS_IMPL_H

#include "eval/likelihood.h"
#include "eval/tasks.h"

/* The figures a task has, with room for their values. */
kf_status kf_task_metrics(const kf_tasks_opts *o, kf_task_result *r, kf_err *err) KF_MUST_CHECK;
/* What a model did with counted item i: e (n_options), the choices; the word; how many programs passed. */
void kf_task_count_choice(kf_task_result *r, int model, int i, const kf_ending *e);
void kf_task_count_word(kf_task_result *r, int model, int i, const kf_ending *e);
void kf_task_count_code(kf_task_result *r, int model, int i, int samples, int passed);
/* Figures, differences and their intervals, from the values. */
kf_status kf_task_figures(const kf_eval_opts *e, kf_task_result *r, kf_err *err) KF_MUST_CHECK;

#endif
