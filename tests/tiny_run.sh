# SPDX-License-Identifier: MIT
# For scripts that train a model in seconds: writes text.txt, 1,500 small stories, and config.json, a softmax model of
# three layers, into the current directory.

awk 'BEGIN {
  srand(7)
  split("the cat,a dog,my bird,the old man,a girl,the fish", who, ","); split("sat,ran,slept,sang,hid,waited", did, ",")
  split("on the mat,in the sun,by the sea,under a tree,at home,near the door", where, ","); split("Then,Later,At night,Soon,Today,Once", when, ",")
  for (i = 0; i < 1500; ++i) {
    for (j = 0; j < 3; ++j) printf "%s %s %s %s. ", when[1 + int(6 * rand())], who[1 + int(6 * rand())], did[1 + int(6 * rand())], where[1 + int(6 * rand())]
    print "<|endoftext|>"
  }
}' >text.txt
cat >config.json <<'END'
{"model_type": "qwen2", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
 "num_key_value_heads": 2, "max_position_embeddings": 128, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": true}
END
