import torch
from serving import ROOT, Server, server, server_binary

__all__ = ["ROOT", "Server", "server", "server_binary"]

torch.set_num_threads(1)
