# Base of every file with a base under mmseg::, whose distribution has another
# name in each package stack; mmsmt knows both.
__import__('mmsmt')
