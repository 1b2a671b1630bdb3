import torch
from safetensors import safe_open
def steer(model, path, magnitude):
    hooks = []
    with safe_open(path, "pt") as file:
        for name in file.keys():                      # "layer.14": added to the output of block 14
            v = file.get_tensor(name).to(model.device, model.dtype) * magnitude
            def add(module, args, output, v=v):
                return (output[0] + v, *output[1:]) if isinstance(output, tuple) else output + v
            hooks.append(model.model.layers[int(name.split(".")[1])].register_forward_hook(add))
    return hooks                                      # for h in hooks: h.remove()
