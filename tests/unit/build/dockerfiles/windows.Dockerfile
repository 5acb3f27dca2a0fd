# escape=`

FROM mcr.microsoft.com/windows/servercore:ltsc2022
SHELL ["powershell", "-Command", "$ErrorActionPreference = 'Stop';"]
WORKDIR C:\app\
COPY bin\ C:\app\
RUN New-Item -ItemType Directory C:\Example; `
    Set-Content -Path C:\Example\a.txt -Value 'hello'
ENV TOOLS=C:\tools\ GREETING=hello` world
ENTRYPOINT ["C:\\app\\server.exe"]
