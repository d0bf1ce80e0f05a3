"""simple_progress_monitor: bars of nested phases in the terminal, and a build that the user ends."""

import common
import mnist_8
import numpy as np
import tensorrt as trt

TRT_LOGGER = trt.Logger(trt.Logger.INTERNAL_ERROR)


class SimpleProgressMonitor(trt.IProgressMonitor):
    def __init__(self, patience=None):
        trt.IProgressMonitor.__init__(self)
        self._active_phases, self.lines, self._patience = {}, [], patience

    def phase_start(self, phase_name, parent_phase, num_steps):
        assert parent_phase is None or parent_phase in self._active_phases
        self._active_phases[phase_name] = {"title": phase_name, "steps": 0, "num_steps": num_steps, "parent": parent_phase}
        self._redraw()

    def phase_finish(self, phase_name):
        del self._active_phases[phase_name]
        self._redraw()

    def step_complete(self, phase_name, step):
        assert 0 <= step <= self._active_phases[phase_name]["num_steps"]
        self._active_phases[phase_name]["steps"] = step
        self._redraw()
        if self._patience is not None:
            self._patience -= 1
            return self._patience > 0
        return True

    def _redraw(self):
        for phase in self._active_phases.values():
            share = phase["steps"] / phase["num_steps"]
            self.lines.append(f"{phase['title']:<12} [{'=' * int(20 * share):<20}] {phase['steps']}/{phase['num_steps']}")


def build(monitor):
    builder = trt.Builder(TRT_LOGGER)
    network = builder.create_network(0)
    config = builder.create_builder_config()
    config.builder_optimization_level = 0
    config.progress_monitor = monitor
    mnist_8.populate_network(network, common.get_weights())
    return builder.build_serialized_network(network, config)


def main():
    monitor = SimpleProgressMonitor()
    plan = build(monitor)
    assert plan is not None and not monitor._active_phases and len(monitor.lines) > 4
    print("\n".join(monitor.lines[-4:]))
    impatient = SimpleProgressMonitor(patience=1)
    assert build(impatient) is None
    engine = trt.Runtime(TRT_LOGGER).deserialize_cuda_engine(plan)
    context, out, predictions = engine.create_execution_context(), np.empty(10, np.float32), []
    images, labels = common.digits()
    for image in images:
        image = np.ascontiguousarray(image)
        assert context.execute_v2([image.ctypes.data, out.ctypes.data])
        predictions.append(int(out.argmax()))
    common.report(predictions, labels)


if __name__ == "__main__":
    main()
