"""Video files decoded into sampled frames, in processes of their own with limits. (torch-free)"""
