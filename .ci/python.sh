# Sourced: the Python clients that tests talk through, in a venv of the cache; MESH_PYTHON names its interpreter.
MESHWORK_CACHE=${MESHWORK_CACHE:-$HOME/.cache/meshwork}
mkdir -p "$MESHWORK_CACHE"
# Tests that run side by side may both find that it is missing.
exec {python_lock}>"$MESHWORK_CACHE/python.lock"
flock "$python_lock"
venv=$MESHWORK_CACHE/python-$(sha256sum .ci/requirements.txt | cut -c1-12)
if [ ! -f "$venv/.complete" ]; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install -q --disable-pip-version-check -r .ci/requirements.txt
  touch "$venv/.complete"
fi
exec {python_lock}>&-
export MESH_PYTHON=$venv/bin/python
