# Base of every file with a base under mmseg::. The distribution of mmseg has
# another name in each package stack; with mmsmt imported, mmseg:: finds it.
__import__('mmsmt')
