"""The steps of a run of EM, kept for its derivative."""

_PATH_BYTES = 2**22


class Path:
    """θ_0 … θ_T of a run of EM, kept in bounded memory.

    All steps are kept while they fit into 4 MiB. Beyond that every second one is dropped, as
    often as necessary, and those in between are computed again when they are needed. In the worst
    case, where only √T are kept, this costs one more step for each.

    Parameters
    ----------
    start : MixtureParameters, θ_0
    max_bytes : int
    plain : bool, default=True
        Whether all steps are plain EM steps. Of others only the last is kept: there is nothing to
        unroll (`forget_steps`).
    temperature : float or None, default=None
        Where the steps were made; None: that of the map.
    before : Path, default=None
        At a higher temperature, from whose end this one begins.
    """

    def __init__(self, start, max_bytes=_PATH_BYTES, *, plain=True, temperature=None, before=None):
        self.start = start
        self.plain, self.temperature, self.before = plain, temperature, before
        self._max_bytes = max_bytes
        self.length = 0
        self.last = None  # the step from θ_{T-1}
        self._stride = 1
        self._kept = []  # steps number stride, 2 stride, …, counted from 1

    def append(self, step):
        """Record an `EMStep`."""
        self.length += 1
        self.last = step
        if not self.plain or self.length % self._stride:
            return
        self._kept.append(step)
        if len(self._kept) > max(self._max_bytes // step.nbytes, self._stride):
            self._kept = self._kept[1::2]
            self._stride *= 2

    def forget_steps(self):
        """Let go of the steps, after one that was not plain."""
        self.plain, self._kept = False, []

    @property
    def is_plain(self):
        """Whether all steps are plain, at higher temperatures too."""
        return self.plain and (self.before is None or self.before.is_plain)

    @property
    def previous(self):
        """θ_{T-1}."""
        return self.start if self.last is None else self.last.theta

    @property
    def end(self):
        """θ_T."""
        return self.start if self.last is None else self.last.parameters

    def stages(self, em_map):
        """Pairs of the map at each temperature and the path there, first one first."""
        stage = em_map if self.temperature is None else em_map.at(self.temperature)
        return [*(self.before.stages(em_map) if self.before else []), (stage, self)]

    def forwards(self, em_map):
        """The steps from θ_0 … θ_{T-1}."""
        for first in range(0, self.length, self._stride):
            yield from self._segment(em_map, first)

    def backwards(self, em_map):
        """The same steps, last one first."""
        for first in reversed(range(0, self.length, self._stride)):
            yield from reversed(list(self._segment(em_map, first)))

    def _segment(self, em_map, first):
        theta = self.start if first == 0 else self._kept[first // self._stride - 1].parameters
        for t in range(first, min(first + self._stride, self.length)):
            step = self._kept[t] if self._stride == 1 else em_map.step(theta)
            yield step
            theta = step.parameters


class PathAgain(Path):
    """The path of plain steps that were not kept: made again when a derivative asks for it.

    Parameters
    ----------
    start : MixtureParameters, θ_0; after another path the end of that
    length : int, number of steps
    temperature, before
        As in `Path`.
    """

    def __init__(self, start, length, *, temperature=None, before=None):
        super().__init__(start, temperature=temperature, before=before)
        self.length = length
        self._made = False

    def stages(self, em_map):
        """As of `Path`; the steps are made now."""
        stages = super().stages(em_map)
        if not self._made:
            if self.before is not None:
                self.start = self.before.end
            self._make(stages[-1][0])
        return stages

    def _make(self, em_map):
        theta, n_steps = self.start, self.length
        self.length = 0
        for _ in range(n_steps):
            step = em_map.step(theta)
            self.append(step)
            theta = step.parameters
        self._made = True
