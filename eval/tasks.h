/* Models on tasks: running them, and what comes of it. */
#ifndef KF_EVAL_TASKS_H
#define KF_EVAL_TASKS_H

#include "eval/eval.h"
#include "eval/sandbox.h"
#include "eval/task.h"

typedef struct {
	const kf_eval_opts *e;     /* models, comparisons, seed, threads; borrowed. Models without `run` take no part */
	const kf_tasks *tasks;     /* borrowed */
	int shots;                 /* the first items of each task, shown solved before the others and not counted */
	int limit;                 /* items of each task that are asked at most, the first after these; 0: all */
	int samples;               /* code: programs an item */
	int max_tokens;            /* to generate at most, instead of the task's own; 0: the task's */
	double temperature, top_p;
	bool plain;                /* ask in plain text even models that have a chat_template */
	size_t cache_bytes;
	kf_sandbox_opts sandbox;
	const char *outputs;       /* JSON Lines of everything that was answered, or NULL */
} kf_tasks_opts;

/* A figure of a task: sum of values / sum of weights over its items, or exp of that. */
typedef struct {
	const char *name;          /* "acc", "acc_norm", "bits_per_byte", "exact_match", "pass@1", "perplexity" */
	bool lower;                /* is better */
	bool exponential;
	double *value[KF_EVAL_MODELS]; /* (n); NULL of models that take no part */
	double *weight;            /* (n); NULL: 1 each */
	kf_eval_interval result[KF_EVAL_MODELS];
	kf_eval_interval diff[KF_EVAL_PAIRS]; /* of each comparison; NAN where a model takes no part */
} kf_metric;

#define KF_TASK_METRICS 3

typedef struct {
	const kf_eval_task *task;
	int first, n;              /* items [first, first + n) are counted: the shots come before */
	int cut[KF_EVAL_MODELS];   /* of these, whose prompt was longer than the model's context: its beginning was left out */
	kf_metric metric[KF_TASK_METRICS];
	int n_metrics;
} kf_task_result;

typedef struct {
	const kf_tasks_opts *o;
	kf_task_result *task;      /* (tasks) */
	int n;
	const char *chat[KF_EVAL_MODELS]; /* the template a model's prompts became messages with; NULL: plain text */
	char sandbox[128];         /* how programs are kept in; "" where there are none */
	int asked, taken;          /* of every model's tasks, those whose scores might be kept, and were */
} kf_tasks_result;

/* pass@k of n samples of which c passed: 1 - C(n - c, k) / C(n, k), the unbiased estimate of Chen et al. 2021. */
double kf_pass_at(int n, int c, int k);

/* Everything that can be known to be in the way, before anything takes long: tasks too small for the shots, models that cannot be
 * opened, templates they do not have, programs that cannot be kept in, outputs that cannot be written. */
typedef struct kf_tasks_job kf_tasks_job;
kf_status kf_tasks_ready(const kf_tasks_opts *o, kf_tasks_result *r, kf_tasks_job **job, kf_err *err) KF_MUST_CHECK;
/* Result is to be released in any case, and after the job. */
kf_status kf_tasks_run(kf_tasks_job *job, kf_err *err) KF_MUST_CHECK;
void kf_tasks_end(kf_tasks_job *job);                       /* removes outputs that are not whole; NULL is none */
void kf_tasks_result_release(kf_tasks_result *r);

json_t *kf_tasks_json(const kf_tasks_result *r);            /* {NAME: ...}; new; NULL on no memory */
void kf_tasks_table(const kf_tasks_result *r, kf_buf *out);
void kf_tasks_markdown(const kf_tasks_result *r, kf_buf *out);

#endif
