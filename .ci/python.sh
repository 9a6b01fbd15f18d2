# Sourced: the Python clients that tests talk through, in a venv of the cache; MESH_PYTHON names its interpreter.
venv=$MESHWORK_CACHE/python-$(sha256sum .ci/requirements.txt | cut -c1-12)
if [ ! -f "$venv/.complete" ]; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install -q --disable-pip-version-check -r .ci/requirements.txt
  touch "$venv/.complete"
fi
export MESH_PYTHON=$venv/bin/python
