"""sampleCharRNN: a two-layer LSTM by gates, a fully connected layer, the most likely character; against numpy step by step."""

import numpy as np
import tensorrt as trt

HIDDEN, LAYERS, WORDS, STEPS = 16, 2, 11, 6
GATES = (trt.RNNGateType.INPUT, trt.RNNGateType.CELL, trt.RNNGateType.FORGET, trt.RNNGateType.OUTPUT)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def main():
    rng = np.random.default_rng(0)
    w = {(l, g, is_w): rng.standard_normal((HIDDEN, HIDDEN)).astype(np.float32) * 0.5 for l in range(LAYERS) for g in GATES for is_w in (True, False)}
    b = {key: rng.standard_normal(HIDDEN).astype(np.float32) * 0.1 for key in w}
    fc_w, fc_b = rng.standard_normal((WORDS, HIDDEN)).astype(np.float32), rng.standard_normal(WORDS).astype(np.float32)
    builder = trt.Builder(trt.Logger())
    network = builder.create_network()
    builder.max_batch_size = 1
    data = network.add_input("data", trt.float32, (STEPS, HIDDEN))
    hidden_in, cell_in = (network.add_input(n, trt.float32, (LAYERS, HIDDEN)) for n in ("hiddenIn", "cellIn"))
    lengths = network.add_input("seqLen", trt.int32, ())
    rnn = network.add_rnn_v2(data, LAYERS, HIDDEN, STEPS, trt.RNNOperation.LSTM)
    rnn.get_output(0).name = "RNN output"
    rnn.seq_lengths, rnn.hidden_state, rnn.cell_state = lengths, hidden_in, cell_in
    for (layer, gate, is_w), array in w.items():
        rnn.set_weights_for_gate(layer, gate, is_w, trt.Weights(array))
        rnn.set_bias_for_gate(layer, gate, is_w, trt.Weights(b[layer, gate, is_w]))
    fc = network.add_constant((WORDS, HIDDEN), fc_w)
    product = network.add_matrix_multiply(rnn.get_output(0), trt.MatrixOperation.NONE, fc.get_output(0), trt.MatrixOperation.TRANSPOSE)
    bias = network.add_constant((1, WORDS), fc_b)
    logits = network.add_elementwise(product.get_output(0), bias.get_output(0), trt.ElementWiseOperation.SUM)
    top = network.add_topk(logits.get_output(0), trt.TopKOperation.MAX, 1, 1 << 1)
    top.get_output(1).name = "pred"
    for tensor, name in ((top.get_output(1), None), (rnn.get_output(1), "hiddenOut"), (rnn.get_output(2), "cellOut")):
        if name:
            tensor.name = name
        network.mark_output(tensor)
    engine = builder.build_engine(network, builder.create_builder_config())
    x = rng.standard_normal((STEPS, HIDDEN)).astype(np.float32)
    h, c = (rng.standard_normal((LAYERS, HIDDEN)).astype(np.float32) for _ in range(2))
    length = np.array([STEPS], np.int32)
    arrays = {"data": x, "hiddenIn": h, "cellIn": c, "seqLen": length}
    for name in ("pred", "hiddenOut", "cellOut"):
        arrays[name] = np.zeros(tuple(engine.get_binding_shape(name)), trt.nptype(engine.get_binding_dtype(name)))
    context = engine.create_execution_context()
    assert context.execute(1, [arrays[engine[i]].ctypes.data for i in range(engine.num_bindings)])
    state, cell, words = h.copy(), c.copy(), []
    for row in x:
        for layer in range(LAYERS):
            total = {g: w[layer, g, True] @ row + b[layer, g, True] + w[layer, g, False] @ state[layer] + b[layer, g, False] for g in GATES}
            i, n, f, o = (total[g] for g in GATES)
            cell[layer] = sigmoid(f) * cell[layer] + sigmoid(i) * np.tanh(n)
            row = state[layer] = sigmoid(o) * np.tanh(cell[layer])
        words.append(int((fc_w @ row + fc_b).argmax()))
    np.testing.assert_allclose(arrays["hiddenOut"], state, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(arrays["cellOut"], cell, rtol=1e-4, atol=1e-5)
    assert arrays["pred"].ravel().tolist() == words
    print("words", *words)


if __name__ == "__main__":
    main()
