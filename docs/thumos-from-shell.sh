#!/bin/sh
# From videos to mAP in the layout that THUMOS14 users have: features, train, detect, eval.
#
#   sh docs/thumos-from-shell.sh VIDEOS ANNOTATIONS.json WORK [MODEL]
#
# VIDEOS holds video_validation_0000051.mp4 ... and video_test_0000004.mp4 ...; ANNOTATIONS.json is ActivityNet
# JSON whose videos say "subset": "Validation" or "Test". WORK gets features, head and results. MODEL is what
# the features come from: a packaged model, one of `vpipe train`, or an imported one (I3D RGB and flow fused).
#
# Feature files that you have already, video_test_0000004.npy of T x C, do as well: put them into
# WORK/features/validation and WORK/features/test, leave VIDEOS empty, and say how their snippets lie:
#   SPACING="--stride 4 --window 16 --fps 30" sh docs/thumos-from-shell.sh '' ANNOTATIONS.json WORK
set -eu
videos=$1 annotations=$2 work=$3 model=${4:-motion-rgb}
head=$work/head.safetensors

# 1. A table of snippets x channels for each video, with the times of its snippets. Running again goes on.
if [ -n "$videos" ]; then
    for part in validation test; do
        vpipe features "$videos/video_${part}_*" -o "$work/features/$part" --model "$model"
    done
fi

# 2. A head learns the segments of the validation videos: `stpp` judges proposals, `mstcn` labels frames.
vpipe train --head "${HEAD:-stpp}" --features "$work/features/validation" --ground-truth "$annotations" \
    --subset Validation --epochs "${EPOCHS:-50}" --overwrite -o "$head" ${SPACING:-}

# 3. Segments of the test videos, and of these alone: a prediction in any other would count as a wrong one.
vpipe detect --features "$work/features/test" --head "$head" ${SPACING:-} --min-score 0.001 --json \
    --anet "$work/segments.json" > "$work/found.json"

# 4. mAP at the tIoU that THUMOS14 is reported at, and their average.
vpipe eval detection --ground-truth "$annotations" --subset Test --predictions "$work/segments.json" \
    --tiou 0.3,0.4,0.5,0.6,0.7 --json | tee "$work/map.json"
