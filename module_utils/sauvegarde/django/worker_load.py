def load(options, source, output):
    raise NotImplementedError
