# kf-merge on two 135M checkpoints: the same bytes whatever the number of threads.
. tests/lib.sh

smol=$(model smollm2-135m)
if [ -z "$smol" ]; then
	skip "merging real models" "no smollm2-135m.gguf: run data/fetch.sh model smollm2-135m data/models/smollm2-135m.gguf"
	exit
fi
# What rounding to sixteen bits changes stands for what training changes.
for type in f16 bf16; do
	check "the pivot as $type" "$BIN/kf-merge" --quiet --method linear --models "$smol" --dtype $type --out "$TMP/$type"
done
for method in sce varm ties dare dare-ties task-arithmetic linear slerp; do
	for threads in 1 2 5; do
		check "$method with $threads" "$BIN/kf-merge" --quiet --method $method --pivot "$smol" --models "$TMP/f16" \
			--models "$TMP/bf16" --dtype f32 --threads $threads --seed 3 --out "$TMP/out"
		(cd "$TMP/out" && sha256sum -- *) >"$TMP/sums.$threads"
		rm -r "$TMP/out"
	done
	check_same "$method: 1 and 2 threads" "$TMP/sums.1" "$TMP/sums.2"
	check_same "$method: 1 and 5 threads" "$TMP/sums.1" "$TMP/sums.5"
done
